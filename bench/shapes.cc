// SPDX-License-Identifier: Apache-2.0
#include "shapes.h"

#include <stdlib.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace shoal::bench {

int64_t ModelShape::layer_weights(int64_t experts_read) const {
  const int64_t attention = hidden * head_dim * 2 * (heads + kv_heads);
  const int64_t mlp = 3 * hidden * ffn;
  return attention + (experts > 0 ? experts_read * mlp + experts * hidden : mlp);
}

const ModelShape& dense_shape() {
  static const ModelShape shape{.name = "dense",
                                .layers = 28,
                                .hidden = 1024,
                                .heads = 16,
                                .kv_heads = 8,
                                .head_dim = 128,
                                .vocab = 32000,
                                .ffn = 3072};
  return shape;
}

const ModelShape& moe_shape() {
  static const ModelShape shape{.name = "moe",
                                .layers = 16,
                                .hidden = 1024,
                                .heads = 16,
                                .kv_heads = 4,
                                .head_dim = 128,
                                .vocab = 32000,
                                .ffn = 384,
                                .experts = 64,
                                .top_k = 8};
  return shape;
}

ShapeDirectory::ShapeDirectory(const ModelShape& shape) {
  nlohmann::json config = {{"model_type", shape.experts > 0 ? "qwen3_moe" : "qwen3"},
                           {"hidden_size", shape.hidden},
                           {"num_hidden_layers", shape.layers},
                           {"num_attention_heads", shape.heads},
                           {"num_key_value_heads", shape.kv_heads},
                           {"head_dim", shape.head_dim},
                           {"intermediate_size", shape.ffn},
                           {"vocab_size", shape.vocab},
                           {"max_position_embeddings", 40960},
                           {"rope_theta", 1e6},
                           {"rms_norm_eps", 1e-6},
                           {"tie_word_embeddings", false},
                           {"hidden_act", "silu"},
                           {"torch_dtype", "bfloat16"}};
  if (shape.experts > 0)
    config.update({{"num_experts", shape.experts},
                   {"num_experts_per_tok", shape.top_k},
                   {"moe_intermediate_size", shape.ffn},
                   {"norm_topk_prob", true},
                   {"decoder_sparse_step", 1},
                   {"mlp_only_layers", nlohmann::json::array()}});
  std::string name = (std::filesystem::temp_directory_path() / "shoal_bench_XXXXXX").string();
  if (!::mkdtemp(name.data())) throw std::runtime_error("cannot make " + name);
  path_ = name;
  std::ofstream(path_ / "config.json") << config.dump(2);
}

ShapeDirectory::~ShapeDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace shoal::bench
