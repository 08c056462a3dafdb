// SPDX-License-Identifier: Apache-2.0
// gpt-oss (OpenAI 2025): attention sinks, sliding windows on alternate layers, biases everywhere, clamped SwiGLU,
// softmax over the chosen experts; gate and up are alternating columns of one stacked tensor, as BF16 or MXFP4.
#include "model/families/family.h"

namespace shoal {

namespace {

MoeLayer gpt_oss_moe(const ConfigReader& config) {
  MoeLayer moe;
  moe.experts = config.has("num_local_experts") ? config.size("num_local_experts") : config.size("num_experts");
  moe.top_k = config.has("num_experts_per_tok") ? config.size("num_experts_per_tok") : config.size("experts_per_token");
  moe.ffn = config.size("intermediate_size");
  moe.router.softmax_over_chosen = true;
  moe.router_bias = moe.expert_bias = true;
  moe.gate.kind = GateKind::kClampedSwish;
  moe.gate.limit = static_cast<float>(config.number_or("swiglu_limit", 7.0));
  moe.storage = ExpertStorage::kStackedPairs;
  moe.router_name = "router";
  return moe;
}

}  // namespace

ModelSpec gpt_oss_spec(const ConfigReader& config) {
  AttentionLayer attention = common_attention(config);
  attention.qkv_bias = attention.o_bias = config.flag_or("attention_bias", true);
  attention.sinks = true;
  ModelSpec spec = common_spec(config, attention.head_dim, false);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    spec.layers[i].attention = attention;
    if (layer_type_is(config, static_cast<int64_t>(i), "sliding_attention", i % 2 == 0))
      spec.layers[i].attention.window = config.size_or("sliding_window", 128);
    spec.layers[i].moe = gpt_oss_moe(config);
  }
  return spec;
}

}  // namespace shoal
