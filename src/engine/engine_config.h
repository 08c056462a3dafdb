// SPDX-License-Identifier: Apache-2.0
// EngineConfig: everything parallel_config.yaml, SHOAL_* and flags can say (docs/architecture.md section 3). One row per option in
// engine_config_rows.cc serves YAML, environment, flags, --help and docs. Precedence: defaults < file < environment < flags.
// Not here: limits that depend on the model (layout_problems in model/model.h).
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/option_flags.h"
#include "base/options.h"
#include "engine/attention_dp.h"
#include "engine/load_balancer_config.h"
#include "parallel/context.h"
#include "parallel/mesh.h"

namespace shoal {

struct KvCacheConfig {
  std::optional<int64_t> max_tokens;
  double free_memory_fraction = 0.9;
  int64_t tokens_per_block = 32;
  bool enable_block_reuse = true;
  bool enable_partial_reuse = true;
  bool copy_on_partial_reuse = true;
  std::string dtype = "auto";
};

// How the ranks that share a sequence compute it; no matter while context_parallel_size is 1.
struct CpConfig {
  std::string cp_type = "HELIX";            // of generated tokens, and of prompts too unless it is HELIX
  std::string prefill_type;                 // of prompts; empty: RING with HELIX, else as cp_type
  std::optional<int64_t> tokens_per_block;  // must be the cache's, if given

  ContextSchemes schemes() const;
};

struct MoeConfig {
  int64_t max_num_tokens = 0;      // 0: no bound
  std::string load_balancer_file;  // empty: none, or given inline
  std::optional<LoadBalancerConfig> load_balancer;
};

struct SchedulerConfig {
  std::string capacity_scheduler_policy = "GUARANTEED_NO_EVICT";
  std::string context_chunking_policy = "FIRST_COME_FIRST_SERVED";
  std::string waiting_queue_policy = "fcfs";
};

struct ExpertStatisticConfig {
  std::string path = "expert_statistic";
  std::string iter_range;  // "start-stop"; empty: nothing is recorded unless asked for while running
  bool token_selections = false;
};

struct EngineConfig {
  int64_t data_parallel_size = 1;
  int64_t pipeline_parallel_size = 1;
  int64_t context_parallel_size = 1;
  int64_t tensor_parallel_size = 1;
  std::optional<int64_t> attention_dp_size;
  bool enable_attention_dp = false;
  std::optional<int64_t> moe_tensor_parallel_size;  // absent or -1: derived
  std::optional<int64_t> moe_expert_parallel_size;
  std::vector<int64_t> pp_partition;

  int64_t max_batch_size = 2048;  // requests per attention-DP rank
  int64_t max_num_tokens = 8192;  // tokens per attention-DP rank and step
  std::optional<int64_t> max_seq_len;
  bool enable_chunked_prefill = false;
  bool disable_overlap_scheduler = false;

  CpConfig cp;
  KvCacheConfig kv_cache;
  MoeConfig moe;
  SchedulerConfig scheduler;
  AttentionDpConfig attention_dp;
  ExpertStatisticConfig expert_statistic;

  std::string dtype = "auto";  // auto, float32, bfloat16
  std::string device = "cpu";
  std::string isa;               // cpu path to force; empty: the fastest
  int64_t threads_per_rank = 0;  // 0: cores / ranks, at least 1
  bool deterministic = false;
  std::string load_format = "auto";  // auto, dummy
  int64_t gpus_per_node = 0;
  double comm_timeout_s = 300.0;

  // Sizes with every default derived; call after validation.
  GridSizes grid() const;
  // Where each option that is not a default was set: option -> "file.yaml:3", "SHOAL_TP", "--tp".
  std::map<std::string, std::string> origins;
  std::vector<std::string> notices;  // accepted keys without meaning here, keys given twice
};

// The one option that may also be a map in YAML.
inline constexpr const char* kLoadBalancerOption = "moe_config.load_balancer";

// The rows of `config`, which must outlive the table; defaults are what it holds now.
OptionTable engine_options(EngineConfig& config);

// `environment`: the SHOAL_* variables. Throws Error with *all* problems: unknown keys (with the nearest known), wrong types, values out of
// bounds, features not built yet, grid equations that do not hold. A file that is no YAML, or a hostile one, is one problem by itself.
EngineConfig load_engine_config(const std::optional<std::filesystem::path>& file,
                                const std::vector<std::pair<std::string, std::string>>& environment,
                                const std::vector<FlagValue>& flags);

}  // namespace shoal
