// SPDX-License-Identifier: Apache-2.0
// The table of layouts on which every model must give the same answers, and the models.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "engine/engine_config.h"

namespace shoal {

struct Layout {
  std::string name;
  int64_t tp = 1, pp = 1, dp = 1;
  int64_t moe_tp = 0, ep = 0;  // 0: not given
  int64_t attention_dp = 1;
  std::vector<int64_t> pp_partition = {};
  int64_t cp = 1;
  std::string cp_type = "HELIX", prefill_type = {};
};

inline void PrintTo(const Layout& layout, std::ostream* out) { *out << layout.name; }

inline const std::vector<Layout>& layouts() {
  static const std::vector<Layout> table = {
      {"one"},
      {"tp2", 2},
      {"tp4", 4},
      {"tp8", 8},
      {"pp2", 1, 2},
      {"pp3", 1, 3},
      {"dp2", 1, 1, 2},
      {"tp2_pp2", 2, 2},
      {"ep4", 4, 1, 1, 0, 4},
      {"moe_tp2_ep2", 4, 1, 1, 2, 2},
      {"adp4_ep4", 4, 1, 1, 1, 4, 4},
      {"tp4_adp2_ep4", 4, 1, 1, 1, 4, 2},
      {"adp4_moe_tp2_ep2", 4, 1, 1, 2, 2, 4},
      {"pp2_ep2", 2, 2, 1, 1, 2},
      {"dp2_tp2_ep2", 2, 1, 2, 1, 2},
      {"pp2_adp2_moe_tp2", 2, 2, 1, 2, 1, 2},
      {"adp2_pp3_ep2", 2, 3, 1, 1, 2, 2},
      {"tp8_moe_tp2_ep4", 8, 1, 1, 2, 4},
      {"tp8_adp4_moe_tp4_ep2", 8, 1, 1, 4, 2, 4},
  };
  return table;
}

// Context parallelism agrees within rounding, not bit by bit.
inline const std::vector<Layout>& context_layouts() {
  static const std::vector<Layout> table = {
      {.name = "cp2", .cp = 2},
      {.name = "cp2_ring", .cp = 2, .cp_type = "RING"},
      {.name = "cp3_ulysses_helix", .cp = 3, .prefill_type = "ULYSSES"},
      {.name = "cp4_ulysses", .cp = 4, .cp_type = "ULYSSES"},
      {.name = "tp2_cp2", .tp = 2, .cp = 2},
      {.name = "cp2_pp2", .pp = 2, .cp = 2},
      {.name = "cp2_ep2", .ep = 2, .cp = 2},
      {.name = "adp2_ep4_cp2", .tp = 2, .ep = 4, .attention_dp = 2, .cp = 2},
  };
  return table;
}

inline EngineConfig config_of(const Layout& layout, const std::string& dtype) {
  EngineConfig config;
  config.tensor_parallel_size = layout.tp;
  config.pipeline_parallel_size = layout.pp;
  config.context_parallel_size = layout.cp;
  config.cp.cp_type = layout.cp_type;
  config.cp.prefill_type = layout.prefill_type;
  config.data_parallel_size = layout.dp;
  if (layout.moe_tp > 0) config.moe_tensor_parallel_size = layout.moe_tp;
  if (layout.ep > 0) config.moe_expert_parallel_size = layout.ep;
  if (layout.attention_dp > 1) config.attention_dp_size = layout.attention_dp;
  config.pp_partition = layout.pp_partition;
  config.dtype = dtype;
  config.max_batch_size = 16;
  config.max_num_tokens = 1024;
  config.kv_cache.max_tokens = 2048;
  config.threads_per_rank = 1;
  return config;
}

// Checkpoints in tests/golden. Several spellings and storages of a family are models of their own here.
inline const std::vector<std::string>& dense_models() {
  static const std::vector<std::string> names = {
      "llama", "qwen2", "qwen3", "llama_linear_f16", "llama_dynamic_f32", "qwen2_window", "qwen3_bias"};
  return names;
}

inline const std::vector<std::string>& moe_models() {
  static const std::vector<std::string> names = {"mixtral",
                                                 "qwen3_moe",
                                                 "qwen3_moe_oldstyle",
                                                 "deepseek_v2",
                                                 "deepseek_v3",
                                                 "deepseek_v3_fp8",
                                                 "deepseek_v3_oldstyle",
                                                 "llama4",
                                                 "llama4_multimodal",
                                                 "gpt_oss",
                                                 "glm4_moe",
                                                 "mixtral_window",
                                                 "deepseek_v2_groups",
                                                 "deepseek_v3_plain",
                                                 "glm4_groups",
                                                 "llama4_dense_top2",
                                                 "gpt_oss_clamp",
                                                 "gpt_oss_mxfp4",
                                                 "qwen3_moe_sparse_step"};
  return names;
}

inline std::vector<std::string> all_models() {
  std::vector<std::string> names = dense_models();
  names.insert(names.end(), moe_models().begin(), moe_models().end());
  return names;
}

}  // namespace shoal
