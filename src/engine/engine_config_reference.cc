// SPDX-License-Identifier: Apache-2.0
#include "engine/engine_config_reference.h"

#include <algorithm>
#include <span>

#include "base/options.h"

namespace shoal {
namespace {

// How the reference's own runtime, kernels and graphs are tuned: no such thing here, or decided by the engine itself.
constexpr ReferenceKey kWithoutMeaning[] = {{"allreduce_strategy"},
                                            {"attn_backend"},
                                            {"backend"},
                                            {"cache_transceiver_config"},
                                            {"cp_config.fifo_version"},
                                            {"cp_config.use_nccl_for_alltoall"},
                                            {"cuda_graph_config"},
                                            {"custom_tokenizer"},
                                            {"disable_mm_encoder"},
                                            {"enable_autotuner"},
                                            {"enable_iter_perf_stats"},
                                            {"enable_iter_req_stats"},
                                            {"enable_layerwise_nvtx_marker"},
                                            {"enable_lm_head_tp_in_adp"},
                                            {"enable_min_latency"},
                                            {"garbage_collection_gen0_threshold"},
                                            {"gather_generation_logits"},
                                            {"iter_stats_max_iterations"},
                                            {"kv_cache_config.attention_dp_events_gather_period_ms"},
                                            {"kv_cache_config.use_kv_cache_manager_v2"},
                                            {"moe_config.backend"},
                                            {"moe_config.disable_finalize_fusion"},
                                            {"moe_config.use_low_precision_moe_combine"},
                                            {"num_postprocess_workers"},
                                            {"orchestrator_type"},
                                            {"perf_metrics_max_requests"},
                                            {"print_iter_log"},
                                            {"return_perf_metrics"},
                                            {"revision"},
                                            {"sampler_type"},
                                            {"scheduler_config.enable_prefix_aware_scheduling"},
                                            {"scheduler_config.use_python_scheduler"},
                                            {"stream_interval"},
                                            {"tokenizer_mode"},
                                            {"torch_compile_config"},
                                            {"trust_remote_code"},
                                            {"use_cuda_graph"},
                                            {"use_torch_sampler"}};

constexpr ReferenceKey kNotBuilt[] = {
    {"attention_dp_config.kv_cache_routing_account_for_in_transfer", "counting pages that are being received", "false"},
    {"attention_dp_config.kv_cache_routing_cold_start_warmup", "warming caches up evenly", "false"},
    {"attention_dp_config.kv_cache_routing_*", "attention-DP ranks by conversation"},
    {"batch_wait_max_tokens_ratio", "waiting for larger batches", "0 0.0"},
    {"batch_wait_timeout_iters", "waiting for larger batches", "0"},
    {"batch_wait_timeout_ms", "waiting for larger batches", "0 0.0"},
    {"checkpoint_format", "checkpoints other than Hugging Face's", "HF"},
    {"dwdp_config", "distributed weight data parallelism"},
    {"enable_lora", "LoRA", "false"},
    {"guided_decoding_backend", "guided decoding"},
    {"kv_cache_config.block_reuse_config", "rules for the reuse of pages"},
    {"kv_cache_config.disk_cache_size", "a cache on disk", "0"},
    {"kv_cache_config.event_buffer_max_size", "cache events", "0"},
    {"kv_cache_config.host_cache_size", "a second cache in host memory", "0"},
    {"kv_cache_config.max_attention_window", "attention windows other than the model's"},
    {"kv_cache_config.max_gpu_total_bytes", "a cache bounded in bytes", "0"},
    {"kv_cache_config.pool_ratio", "cache pools of given ratios"},
    {"kv_connector_config", "cache connectors"},
    {"lora_config", "LoRA"},
    {"max_beam_width", "beam search", "1"},
    {"moe_cluster_parallel_size", "clusters of MoE ranks", "-1 1"},
    {"mx_config", "loading from a running peer"},
    {"peft_cache_config", "LoRA"},
    {"quant_config", "quantisation other than the checkpoint's"},
    {"scheduler_config.dynamic_batch_config", "dynamic batch sizes"},
    {"sparse_attention_config", "sparse attention"},
    {"speculative_config", "speculative decoding"}};

bool covers(const ReferenceKey& key, std::string_view path) {
  if (key.path.ends_with('*')) return path.starts_with(key.path.substr(0, key.path.size() - 1));
  return key.path == path;
}

constexpr std::span<const ReferenceKey> kAll[] = {kWithoutMeaning, kNotBuilt};

template <typename Predicate>
const ReferenceKey* find_key(Predicate predicate) {
  for (const std::span<const ReferenceKey> keys : kAll) {
    const auto found = std::find_if(keys.begin(), keys.end(), predicate);
    if (found != keys.end()) return &*found;
  }
  return nullptr;
}

}  // namespace

bool ReferenceKey::allows(std::string_view value) const {
  const std::string words = " " + canonical_spelling(harmless) + " ";
  return !value.empty() && words.find(" " + canonical_spelling(value) + " ") != std::string::npos;
}

const ReferenceKey* find_reference_key(std::string_view path) {
  return find_key([&](const ReferenceKey& key) { return covers(key, path); });
}

bool is_reference_section(std::string_view path) {
  const std::string prefix = std::string(path) + ".";
  return find_key([&](const ReferenceKey& key) { return key.path.starts_with(prefix); }) != nullptr;
}

std::vector<std::string> reference_paths() {
  std::vector<std::string> paths;
  for (const std::span<const ReferenceKey> keys : kAll) {
    for (const ReferenceKey& key : keys) {
      if (!key.path.ends_with('*')) paths.emplace_back(key.path);
    }
  }
  return paths;
}

}  // namespace shoal
