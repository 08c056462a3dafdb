// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V2, V3, R1 and Kimi-K2 (DeepSeek-AI 2024a, 2024b): multi-head latent attention, fine-grained experts beside
// shared ones, device-limited routing. V2 scores groups by their best expert, softmax, and never renormalises; V3 by
// the sum of the two best, sigmoid, with a correction bias that selects and never weighs.
#include <cmath>

#include "model/families/family.h"

namespace shoal {

namespace {

AttentionLayer mla_attention(const ConfigReader& config) {
  MlaSpec mla;
  mla.q_lora_rank = config.size_or("q_lora_rank", 0);
  mla.kv_lora_rank = config.size("kv_lora_rank");
  mla.nope_dim = config.size("qk_nope_head_dim");
  mla.rope_dim = config.size("qk_rope_head_dim");
  if (mla.rope_dim % 2 != 0) config.fail("qk_rope_head_dim", "even");
  config.refuse_flag("attention_bias", "a bias in latent attention");
  AttentionLayer attention;
  attention.heads = config.size("num_attention_heads");
  attention.kv_heads = 1;
  attention.head_dim = mla.nope_dim + mla.rope_dim;  // config.json's head_dim may mean the rope part
  attention.v_dim = config.size("v_head_dim");
  attention.mla = mla;
  return attention;
}

// YaRN's temperature for the part of it that is not in cos and sin.
float mla_scale(const ConfigReader& config, const AttentionLayer& attention, const RopeSpec& rope) {
  double scale = 1.0 / std::sqrt(static_cast<double>(attention.head_dim));
  const std::optional<ConfigReader> parameters =
      config.has("rope_parameters") ? config.object("rope_parameters") : config.object("rope_scaling");
  if (parameters && rope.type == RopeType::kYarn) {
    const double all_dim = parameters->number_or("mscale_all_dim", 0.0);
    if (all_dim != 0.0) scale *= yarn_mscale(rope.factor, all_dim) * yarn_mscale(rope.factor, all_dim);
  }
  return static_cast<float>(scale);
}

MoeLayer deepseek_moe(const ConfigReader& config) {
  MoeLayer moe;
  moe.experts = config.size("n_routed_experts");
  moe.top_k = config.size("num_experts_per_tok");
  moe.ffn = config.size("moe_intermediate_size");
  moe.shared_ffn = moe.ffn * config.size_or("n_shared_experts", 0, 0);
  moe.router.scale = static_cast<float>(config.number_or("routed_scaling_factor", 1.0));
  return moe;
}

void limit_groups(const ConfigReader& config, MoeLayer& moe, GroupScore score) {
  moe.router.groups = config.size_or("n_group", 1);
  moe.router.top_groups = config.size_or("topk_group", moe.router.groups);
  moe.router.group_score = score;
  if (moe.experts % moe.router.groups != 0)
    config.fail("n_group", "a divisor of n_routed_experts, " + std::to_string(moe.experts));
  if (moe.router.top_groups > moe.router.groups)
    config.fail("topk_group", "at most n_group, " + std::to_string(moe.router.groups));
}

ModelSpec deepseek_spec(const ConfigReader& config, const MoeLayer& moe) {
  AttentionLayer attention = mla_attention(config);
  ModelSpec spec = common_spec(config, attention.mla->rope_dim, config.flag_or("rope_interleave", true));
  attention.scale = mla_scale(config, attention, spec.rope);
  const int64_t first_moe = config.size_or("first_k_dense_replace", 0, 0);
  const int64_t every = config.size_or("moe_layer_freq", 1);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    DecoderLayer& layer = spec.layers[i];
    layer.attention = attention;
    if (static_cast<int64_t>(i) >= first_moe && static_cast<int64_t>(i) % every == 0) {
      layer.moe = moe;
    } else {
      layer.dense.ffn = config.size("intermediate_size");
    }
  }
  return spec;
}

}  // namespace

ModelSpec deepseek_v2_spec(const ConfigReader& config) {
  MoeLayer moe = deepseek_moe(config);
  config.require("scoring_func", "softmax");
  const std::string method = config.text_or("topk_method", "greedy");
  if (method == "group_limited_greedy") {
    limit_groups(config, moe, GroupScore::kMax);
  } else if (method != "greedy") {
    config.fail("topk_method", "greedy or group_limited_greedy");
  }
  return deepseek_spec(config, moe);
}

ModelSpec deepseek_v3_spec(const ConfigReader& config) {
  MoeLayer moe = deepseek_moe(config);
  config.require("scoring_func", "sigmoid");
  config.require("topk_method", "noaux_tc");
  moe.router.scoring = Scoring::kSigmoid;
  moe.router.renormalise = config.flag_or("norm_topk_prob", true);
  moe.correction_bias = true;
  limit_groups(config, moe, GroupScore::kTopTwoSum);
  return deepseek_spec(config, moe);
}

}  // namespace shoal
