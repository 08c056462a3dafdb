// SPDX-License-Identifier: Apache-2.0
// GLM-4.5 MoE (GLM team 2025): rotary on part of the head, q and k norms before it, DeepSeek-V3's router and shared
// expert.
#include "model/families/family.h"

namespace shoal {

namespace {

MoeLayer glm_moe(const ConfigReader& config) {
  MoeLayer moe;
  moe.experts = config.size("n_routed_experts");
  moe.top_k = config.size("num_experts_per_tok");
  moe.ffn = config.size("moe_intermediate_size");
  moe.shared_ffn = moe.ffn * config.size_or("n_shared_experts", 0, 0);
  moe.correction_bias = true;
  moe.router.scoring = Scoring::kSigmoid;
  moe.router.group_score = GroupScore::kTopTwoSum;
  moe.router.renormalise = config.flag_or("norm_topk_prob", true);
  moe.router.scale = static_cast<float>(config.number_or("routed_scaling_factor", 1.0));
  moe.router.groups = config.size_or("n_group", 1);
  moe.router.top_groups = config.size_or("topk_group", moe.router.groups);
  if (moe.experts % moe.router.groups != 0)
    config.fail("n_group", "a divisor of n_routed_experts, " + std::to_string(moe.experts));
  if (moe.router.top_groups > moe.router.groups)
    config.fail("topk_group", "at most n_group, " + std::to_string(moe.router.groups));
  return moe;
}

int64_t rotary_dim(const ConfigReader& config, int64_t head_dim) {
  const std::optional<ConfigReader> parameters = config.object("rope_parameters");
  const double fraction = parameters && parameters->has("partial_rotary_factor")
                              ? parameters->number("partial_rotary_factor")
                              : config.number_or("partial_rotary_factor", 0.5);
  const int64_t dim = static_cast<int64_t>(static_cast<double>(head_dim) * fraction);
  if (dim < 2 || dim > head_dim || dim % 2 != 0)
    config.fail("partial_rotary_factor", "a fraction that rotates an even part of the head");
  return dim;
}

}  // namespace

ModelSpec glm4_moe_spec(const ConfigReader& config) {
  AttentionLayer attention = common_attention(config);
  attention.qkv_bias = config.flag_or("attention_bias", false);
  if (config.flag_or("use_qk_norm", false)) attention.qk_norm = QkNorm::kWeightedBeforeRope;
  ModelSpec spec = common_spec(config, rotary_dim(config, attention.head_dim), false);
  const int64_t first_moe = config.size_or("first_k_dense_replace", 1, 0);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    spec.layers[i].attention = attention;
    if (static_cast<int64_t>(i) >= first_moe) {
      spec.layers[i].moe = glm_moe(config);
    } else {
      spec.layers[i].dense.ffn = config.size("intermediate_size");
    }
  }
  return spec;
}

}  // namespace shoal
