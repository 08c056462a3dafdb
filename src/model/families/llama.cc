// SPDX-License-Identifier: Apache-2.0
// Llama 1 to 3 (Touvron et al. 2023; Dubey et al. 2024): grouped-query attention, SwiGLU.
#include "model/families/family.h"

namespace shoal {

ModelSpec llama_spec(const ConfigReader& config) {
  config.refuse_flag("mlp_bias", "a bias in the FFN");
  AttentionLayer attention = common_attention(config);
  attention.qkv_bias = attention.o_bias = config.flag_or("attention_bias", false);
  ModelSpec spec = common_spec(config, attention.head_dim, false);
  for (DecoderLayer& layer : spec.layers) {
    layer.attention = attention;
    layer.dense.ffn = config.size("intermediate_size");
  }
  return spec;
}

}  // namespace shoal
