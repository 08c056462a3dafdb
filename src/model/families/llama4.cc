// SPDX-License-Identifier: Apache-2.0
// Llama-4 text models (Meta 2025): rope layers with chunked attention and a weightless norm of q and k after rope;
// every fourth layer without positions (NoPE) and with temperature; the router's sigmoid scales the expert's input.
#include <algorithm>

#include "model/families/family.h"

namespace shoal {

namespace {

// Published files leave the lists of layers to be derived from an interval.
bool layer_has_rope(const ConfigReader& config, int64_t layer) {
  const std::vector<int64_t> listed = config.sizes_or("no_rope_layers", {});  // 1 means rope, whatever the name says
  if (listed.empty()) return (layer + 1) % config.size_or("no_rope_layer_interval", 4) != 0;
  if (layer >= static_cast<int64_t>(listed.size())) config.fail("no_rope_layers", "as long as num_hidden_layers");
  return listed[layer] != 0;
}

bool layer_is_moe(const ConfigReader& config, int64_t layer) {
  if (!config.has("moe_layers")) return (layer + 1) % config.size_or("interleave_moe_layer_step", 1) == 0;
  const std::vector<int64_t> listed = config.sizes_or("moe_layers", {});
  return std::find(listed.begin(), listed.end(), layer) != listed.end();
}

AttentionLayer llama4_attention(const ConfigReader& config, int64_t layer) {
  AttentionLayer attention = common_attention(config);
  attention.qkv_bias = attention.o_bias = config.flag_or("attention_bias", false);
  attention.rope = layer_has_rope(config, layer);
  if (attention.rope && config.flag_or("use_qk_norm", true)) attention.qk_norm = QkNorm::kWeightlessAfterRope;
  if (layer_type_is(config, layer, "chunked_attention", attention.rope))
    attention.chunk = config.size_or("attention_chunk_size", 0);
  if (!attention.rope && config.flag_or("attn_temperature_tuning", true)) {
    attention.temperature_scale = static_cast<float>(config.number_or("attn_scale", 0.1));
    attention.temperature_floor = static_cast<float>(config.number_or("floor_scale", 8192.0));
    if (attention.temperature_floor <= 0.0f) config.fail("floor_scale", "positive");
  }
  return attention;
}

MoeLayer llama4_moe(const ConfigReader& config) {
  MoeLayer moe;
  moe.experts = config.size("num_local_experts");
  moe.top_k = config.size_or("num_experts_per_tok", 1);
  moe.ffn = moe.shared_ffn = config.size("intermediate_size");
  moe.router.scoring = Scoring::kSigmoid;
  moe.weight_on_input = true;
  moe.storage = ExpertStorage::kStackedHalves;
  moe.block = "feed_forward";
  moe.router_name = "router";
  moe.shared_name = "shared_expert";
  return moe;
}

}  // namespace

ModelSpec llama4_spec(const ConfigReader& config) {
  ModelSpec spec = common_spec(config, common_attention(config).head_dim, true);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    DecoderLayer& layer = spec.layers[i];
    layer.attention = llama4_attention(config, static_cast<int64_t>(i));
    layer.dense.block = "feed_forward";
    if (layer_is_moe(config, static_cast<int64_t>(i))) {
      layer.moe = llama4_moe(config);
    } else {
      layer.dense.ffn = config.size("intermediate_size_mlp");
    }
  }
  return spec;
}

}  // namespace shoal
