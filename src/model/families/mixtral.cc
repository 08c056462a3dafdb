// SPDX-License-Identifier: Apache-2.0
// Mixtral (Jiang et al. 2024): every layer routed; softmax over all experts, then renormalised top-k, which is a
// softmax over the chosen.
#include "model/families/family.h"

namespace shoal {

ModelSpec mixtral_spec(const ConfigReader& config) {
  AttentionLayer attention = common_attention(config);
  attention.window = config.size_or("sliding_window", 0);
  MoeLayer moe;
  moe.experts = config.size("num_local_experts");
  moe.top_k = config.size("num_experts_per_tok");
  moe.ffn = config.size("intermediate_size");
  moe.router.softmax_over_chosen = true;
  moe.block = "block_sparse_moe";
  moe.gate_proj = "w1";
  moe.up_proj = "w3";
  moe.down_proj = "w2";
  ModelSpec spec = common_spec(config, attention.head_dim, false);
  for (DecoderLayer& layer : spec.layers) {
    layer.attention = attention;
    layer.moe = moe;
  }
  return spec;
}

}  // namespace shoal
