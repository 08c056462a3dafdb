// SPDX-License-Identifier: Apache-2.0
// Model directories of the end-to-end benchmarks: only a config.json, for load_format dummy. Sizes of what one token reads and computes.
#pragma once

#include <filesystem>
#include <string>

namespace shoal::bench {

struct ModelShape {
  std::string name;
  int64_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0;
  int64_t ffn = 0;  // dense, or of one expert
  int64_t experts = 0, top_k = 0;

  int64_t layer_weights(int64_t experts_read) const;  // elements of one layer's matrices
  // Multiply-adds of the layers' matrices for one token, and of the LM head.
  int64_t token_products() const { return layers * layer_weights(top_k); }
  int64_t head_products() const { return vocab * hidden; }
  int64_t cache_elements(int64_t tokens) const { return 2 * layers * kv_heads * head_dim * tokens; }
  // Of causal attention over a prompt of `tokens`: scores and values.
  int64_t attention_products(int64_t tokens) const { return layers * heads * head_dim * tokens * (tokens + 1); }
};

const ModelShape& dense_shape();  // Qwen3-0.6B's layers, a vocabulary of 32,000: 506M parameters
const ModelShape& moe_shape();    // 16 layers of 64 experts, top-8: 1,358M parameters

// A directory of that shape, removed with the object.
class ShapeDirectory {
 public:
  explicit ShapeDirectory(const ModelShape& shape);
  ~ShapeDirectory();
  ShapeDirectory(const ShapeDirectory&) = delete;
  ShapeDirectory& operator=(const ShapeDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace shoal::bench
