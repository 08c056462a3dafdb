// SPDX-License-Identifier: Apache-2.0
// Qwen2, Qwen3 and Qwen3-MoE (Qwen technical reports 2024, 2025): Qwen2 has biases on q, k, v; Qwen3 norms each head's
// q and k before rope.
#include <algorithm>

#include "base/error.h"
#include "model/families/family.h"

namespace shoal {

namespace {

// Sliding windows: on the layers that layer_types names, else on those from max_window_layers.
int64_t window_of(const ConfigReader& config, int64_t layer) {
  if (!config.flag_or("use_sliding_window", false) || !config.has("sliding_window")) return 0;
  const bool late = layer >= config.size_or("max_window_layers", 28, 0);
  return layer_type_is(config, layer, "sliding_attention", late) ? config.size("sliding_window") : 0;
}

AttentionLayer qwen3_attention(const ConfigReader& config) {
  AttentionLayer attention = common_attention(config);
  attention.qk_norm = QkNorm::kWeightedBeforeRope;
  attention.qkv_bias = attention.o_bias = config.flag_or("attention_bias", false);
  return attention;
}

ModelSpec dense_spec(const ConfigReader& config, const AttentionLayer& attention) {
  ModelSpec spec = common_spec(config, attention.head_dim, false);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    spec.layers[i].attention = attention;
    spec.layers[i].attention.window = window_of(config, static_cast<int64_t>(i));
    spec.layers[i].dense.ffn = config.size("intermediate_size");
  }
  return spec;
}

MoeLayer qwen3_moe_layer(const ConfigReader& config) {
  MoeLayer moe;
  moe.experts = config.has("num_experts") ? config.size("num_experts") : config.size("num_local_experts");
  moe.top_k = config.size("num_experts_per_tok");
  moe.ffn = config.size("moe_intermediate_size");
  moe.router.renormalise = config.flag_or("norm_topk_prob", false);
  return moe;
}

}  // namespace

ModelSpec qwen2_spec(const ConfigReader& config) {
  AttentionLayer attention = common_attention(config);
  attention.qkv_bias = true;
  return dense_spec(config, attention);
}

ModelSpec qwen3_spec(const ConfigReader& config) { return dense_spec(config, qwen3_attention(config)); }

ModelSpec qwen3_moe_spec(const ConfigReader& config) {
  const AttentionLayer attention = qwen3_attention(config);
  ModelSpec spec = common_spec(config, attention.head_dim, false);
  const std::vector<int64_t> dense_layers = config.sizes_or("mlp_only_layers", {});
  const int64_t step = config.size_or("decoder_sparse_step", 1);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    DecoderLayer& layer = spec.layers[i];
    layer.attention = attention;
    if (config.flag_or("use_sliding_window", false)) layer.attention.window = config.size_or("sliding_window", 0);
    const bool listed =
        std::find(dense_layers.begin(), dense_layers.end(), static_cast<int64_t>(i)) != dense_layers.end();
    if (!listed && (static_cast<int64_t>(i) + 1) % step == 0) {
      layer.moe = qwen3_moe_layer(config);
    } else {
      layer.dense.ffn = config.size("intermediate_size");
    }
  }
  return spec;
}

}  // namespace shoal
