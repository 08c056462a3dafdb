// SPDX-License-Identifier: Apache-2.0
// Every option, one row each.
#include "engine/engine_config.h"

namespace shoal {
namespace {

constexpr double kMostTokens = 1 << 30;

std::vector<Option> grid_rows(EngineConfig& c) {
  return {
      {.name = "tensor_parallel_size",
       .field = &c.tensor_parallel_size,
       .help = "ranks that share each layer",
       .aliases = {"tp", "tp_size"},
       .min = 1,
       .max = kMaxRanks},
      {.name = "pipeline_parallel_size",
       .field = &c.pipeline_parallel_size,
       .help = "stages that share the layers",
       .aliases = {"pp", "pp_size"},
       .min = 1,
       .max = kMaxRanks},
      {.name = "data_parallel_size",
       .field = &c.data_parallel_size,
       .help = "whole replicas; a request goes to the least loaded",
       .aliases = {"dp", "dp_size"},
       .min = 1,
       .max = kMaxRanks},
      {.name = "context_parallel_size",
       .field = &c.context_parallel_size,
       .help = "ranks that share each sequence",
       .aliases = {"cp", "cp_size"},
       .min = 1,
       .max = kMaxRanks},
  };
}

std::vector<Option> module_rows(EngineConfig& c) {
  return {
      {.name = "enable_attention_dp",
       .field = &c.enable_attention_dp,
       .help = "attention and its KV cache data parallel over the tensor-parallel ranks: attention_dp_size = "
               "tensor_parallel_size",
       .aliases = {"adp", "attention_dp"}},
      {.name = "attention_dp_size",
       .field = &c.attention_dp_size,
       .help = "attention data-parallel groups, each tensor_parallel_size / attention_dp_size ranks wide",
       .aliases = {"adp_size"},
       .min = 1,
       .max = kMaxRanks},
      {.name = "moe_tensor_parallel_size",
       .field = &c.moe_tensor_parallel_size,
       .help = "ranks that share each expert",
       .aliases = {"moe_tp", "moe_tp_size"},
       .min = 1,
       .max = kMaxRanks,
       .absent = -1},
      {.name = "moe_expert_parallel_size",
       .field = &c.moe_expert_parallel_size,
       .help = "ranks that share the experts among them",
       .aliases = {"ep", "ep_size", "moe_ep", "moe_ep_size"},
       .min = 1,
       .max = kMaxRanks,
       .absent = -1},
      {.name = "pp_partition",
       .field = &c.pp_partition,
       .help = "layers of each stage; else the first stages take one more",
       .min = 1,
       .max = kMaxRanks},
  };
}

std::vector<Option> context_rows(CpConfig& c) {
  return {
      {.name = "cp_config.cp_type",
       .field = &c.cp_type,
       .help = "how context-parallel ranks compute generated tokens, and prompts too unless it is HELIX",
       .aliases = {"cp_type"},
       .choices = {"HELIX", "RING", "ULYSSES"},
       .planned = {"STAR"}},
      {.name = "cp_config.prefill_type",
       .field = &c.prefill_type,
       .help = "how they compute prompts; else RING with HELIX, and as cp_type otherwise",
       .aliases = {"cp_prefill_type"},
       .choices = {"RING", "ULYSSES"}},
      {.name = "cp_config.tokens_per_block",
       .field = &c.tokens_per_block,
       .help = "tokens of one page, as kv_cache_config says",
       .min = 2,
       .max = 4096,
       .power_of_two = true},
  };
}

std::vector<Option> batch_rows(EngineConfig& c) {
  return {
      {.name = "max_batch_size",
       .field = &c.max_batch_size,
       .help = "requests in flight, per attention-DP rank",
       .min = 1,
       .max = kMostTokens},
      {.name = "max_num_tokens",
       .field = &c.max_num_tokens,
       .help = "tokens of one step, per attention-DP rank",
       .min = 1,
       .max = kMostTokens},
      {.name = "max_seq_len",
       .field = &c.max_seq_len,
       .help = "prompt and output of one request; else the model's",
       .min = 1,
       .max = kMostTokens},
      {.name = "enable_chunked_prefill",
       .field = &c.enable_chunked_prefill,
       .help =
           "cut any prompt to fill the room left in a step; without it only prompts longer than max_num_tokens are cut",
       .aliases = {"chunked_prefill"}},
      {.name = "disable_overlap_scheduler",
       .field = &c.disable_overlap_scheduler,
       .help = "plan a step only when the tokens of the one before are known, not while that computes"},
      {.name = "moe_config.max_num_tokens",
       .field = &c.moe.max_num_tokens,
       .help = "tokens, summed over ranks, of one MoE call; more are divided into several; 0 for no bound",
       .aliases = {"moe_max_num_tokens"},
       .min = 0,
       .max = kMostTokens},
      {.name = kLoadBalancerOption,
       .field = &c.moe.load_balancer_file,
       .help = "slots of the experts, and whether experts move: a file (num_slots, initial_global_assignments, "
               "layer_updates_per_iter, max_stall_ms), in YAML also these keys themselves",
       .aliases = {"moe_load_balancer"}},
  };
}

std::vector<Option> scheduler_rows(SchedulerConfig& c) {
  return {
      {.name = "scheduler_config.capacity_scheduler_policy",
       .field = &c.capacity_scheduler_policy,
       .help = "which requests start: only those whose whole cache is sure to fit; as many as fit now, of which the "
               "last may have to start again; a new batch once all have ended",
       .aliases = {"capacity_scheduler_policy"},
       .choices = {"GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"}},
      {.name = "scheduler_config.context_chunking_policy",
       .field = &c.context_chunking_policy,
       .help = "with enable_chunked_prefill: the first prompts take all the room; all the same; one page each",
       .aliases = {"context_chunking_policy"},
       .choices = {"FIRST_COME_FIRST_SERVED", "EQUAL_PROGRESS", "FORCE_CHUNK"}},
      {.name = "scheduler_config.waiting_queue_policy",
       .field = &c.waiting_queue_policy,
       .help = "which request starts next: the oldest; the one of the highest priority",
       .aliases = {"waiting_queue_policy"},
       .choices = {"fcfs", "priority"}},
  };
}

std::vector<Option> attention_dp_rows(AttentionDpConfig& c) {
  return {
      {.name = "attention_dp_config.enable_balance",
       .field = &c.enable_balance,
       .help = "attention-DP ranks compute prompts in the same steps: those that have some wait for the others"},
      {.name = "attention_dp_config.timeout_iters",
       .field = &c.timeout_iters,
       .help = "steps that they wait at most",
       .min = 0,
       .max = kMostTokens},
      {.name = "attention_dp_config.batching_wait_iters",
       .field = &c.batching_wait_iters,
       .help = "steps that prompts wait for more of them while every rank also generates",
       .min = 0,
       .max = kMostTokens},
      {.name = "attention_dp_config.enable_kv_cache_aware_routing",
       .field = &c.enable_kv_cache_aware_routing,
       .help = "a request goes to the rank that has cached most of its prompt, if that is not too busy"},
      {.name = "attention_dp_config.kv_cache_routing_load_balance_weight",
       .field = &c.kv_cache_routing_load_balance_weight,
       .help = "what a rank's load counts beside what it would have to compute",
       .min = 0,
       .max = 1e6},
      {.name = "attention_dp_config.kv_cache_routing_match_rate_threshold",
       .field = &c.kv_cache_routing_match_rate_threshold,
       .help = "share of the prompt below which a match counts as nothing",
       .min = 0,
       .max = 1},
      {.name = "attention_dp_config.kv_cache_routing_fair_share_multiplier",
       .field = &c.kv_cache_routing_fair_share_multiplier,
       .help = "requests that a rank may have, as a multiple of its fair share",
       .min = 1,
       .max = 1e6},
  };
}

std::vector<Option> kv_cache_rows(KvCacheConfig& c) {
  return {
      {.name = "kv_cache_config.max_tokens",
       .field = &c.max_tokens,
       .help = "tokens that the cache of an attention-DP rank holds; the lesser of this and the memory's share counts",
       .aliases = {"kv_cache_max_tokens"},
       .min = 1,
       .max = kMostTokens},
      {.name = "kv_cache_config.free_memory_fraction",
       .field = &c.free_memory_fraction,
       .help = "share of the memory left after loading that the cache takes, divided by the ranks that share it",
       .aliases = {"free_memory_fraction", "kv_cache_config.free_gpu_memory_fraction", "free_gpu_memory_fraction",
                   "kv_cache_free_gpu_memory_fraction", "kv_cache_free_gpu_mem_fraction"},
       .min = 0.01,
       .max = 1},
      {.name = "kv_cache_config.tokens_per_block",
       .field = &c.tokens_per_block,
       .help = "tokens of one page",
       .aliases = {"tokens_per_block"},
       .min = 2,
       .max = 4096,
       .power_of_two = true},
      {.name = "kv_cache_config.enable_block_reuse",
       .field = &c.enable_block_reuse,
       .help = "share pages between requests that begin alike",
       .aliases = {"enable_block_reuse"}},
      {.name = "kv_cache_config.enable_partial_reuse",
       .field = &c.enable_partial_reuse,
       .help = "with it, also the beginning of a page of which the rest differs",
       .aliases = {"enable_partial_reuse"}},
      {.name = "kv_cache_config.copy_on_partial_reuse",
       .field = &c.copy_on_partial_reuse,
       .help = "by copying it; false: only a page that nobody else needs, which is taken over",
       .aliases = {"copy_on_partial_reuse"}},
      {.name = "kv_cache_config.dtype",
       .field = &c.dtype,
       .help =
           "element type of the cache; auto: the type computed in; fp8: E4M3, for a half or a quarter of the memory",
       .aliases = {"kv_cache_dtype"},
       .choices = {"auto", "fp8"},
       .planned = {"nvfp4"}},
  };
}

std::vector<Option> machine_rows(EngineConfig& c) {
  return {
      {.name = "dtype",
       .field = &c.dtype,
       .help = "type computed in; auto: the fastest that stays near float32 (bf16 weights; with routers, "
               "activations of at least 17 bits, float32 cache)",
       .choices = {"auto", "float32", "bfloat16"},
       .planned = {"float16"}},
      {.name = "device",
       .field = &c.device,
       .help = "what computes; reference: plain loops, slow, for comparison",
       .choices = {"cpu", "reference"},
       .planned = {"cuda"}},
      {.name = "isa",
       .field = &c.isa,
       .help = "instruction-set path of the CPU; else the fastest it has",
       .choices = {"amxbf16", "amx", "avx512bf16", "avx512", "avx2", "plain"}},
      {.name = "threads_per_rank",
       .field = &c.threads_per_rank,
       .help = "compute threads of a rank; 0: cores / ranks, at least 1",
       .aliases = {"threads"},
       .min = 0,
       .max = 4096},
  };
}

std::vector<Option> run_rows(EngineConfig& c) {
  return {
      {.name = "deterministic",
       .field = &c.deterministic,
       .help = "the same bits in every layout, for MoE and MLA too"},
      {.name = "load_format",
       .field = &c.load_format,
       .help = "weights: from the checkpoint, or random ones of the same shapes",
       .choices = {"auto", "dummy"},
       .planned = {"vision_only", "gms"}},
      {.name = "gpus_per_node",
       .field = &c.gpus_per_node,
       .help = "devices of a host; 0: as many as found; none on CPUs",
       .min = 0,
       .max = kMaxRanks},
      {.name = "comm_timeout_s",
       .field = &c.comm_timeout_s,
       .help = "seconds that ranks wait for a late one before the group is given up",
       .min = 0.01,
       .max = 86400},
  };
}

std::vector<Option> statistic_rows(ExpertStatisticConfig& c) {
  return {
      {.name = "expert_statistic.iter_range",
       .field = &c.iter_range,
       .help =
           "steps START-STOP of which the picks of each expert are written to files; also EXPERT_STATISTIC_ITER_RANGE"},
      {.name = "expert_statistic.path",
       .field = &c.path,
       .help = "directory of these files; also EXPERT_STATISTIC_PATH"},
      {.name = "expert_statistic.token_selections",
       .field = &c.token_selections,
       .help =
           "also each token's experts, for co-occurrence and ranks sent to (4 bytes of memory a pick until they are "
           "written); also EXPERT_STATISTIC_TOKEN_SELECTIONS"},
  };
}

}  // namespace

OptionTable engine_options(EngineConfig& config) {
  std::vector<Option> rows;
  for (std::vector<Option> part :
       {grid_rows(config), module_rows(config), context_rows(config.cp), batch_rows(config),
        scheduler_rows(config.scheduler), attention_dp_rows(config.attention_dp), kv_cache_rows(config.kv_cache),
        machine_rows(config), run_rows(config), statistic_rows(config.expert_statistic)}) {
    for (Option& row : part) rows.push_back(std::move(row));
  }
  return OptionTable(std::move(rows));
}

}  // namespace shoal
