// SPDX-License-Identifier: Apache-2.0
// Arguments of ops that need more than tensors: attention, routers, gated activations, rotary tables.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/tensor.h"

namespace shoal {

// One layer's KV pages on one rank. A page holds `tokens_per_block` positions of one sequence.
// k [pages, kv_heads, tokens_per_block, k_dim], v [pages, kv_heads, tokens_per_block, v_dim].
// MLA's latent cache: kv_heads = 1, k_dim = kv_lora_rank + rope_dim, v undefined: values are the first v_dim columns of k.
struct KvLayer {
  Tensor k;
  Tensor v;
  int64_t tokens_per_block() const { return k.size(2); }
};

// Rows [row_begin, row_begin + rows) of the batch are consecutive positions of one sequence, the last of them at context - 1.
struct SequenceSpan {
  int64_t row_begin = 0;
  int64_t rows = 0;
  int64_t context = 0;      // positions in the cache, these rows' own included
  int64_t prompt_rows = 0;  // leading rows that are prompt positions, the rest were generated; roles decide MLA's form
  // Page of positions [i * tokens_per_block, ...), at least ceil(context / tokens_per_block) of them; -1 where no row sees any of them.
  std::vector<int32_t> pages;
};

struct AttentionSpec {
  float scale = 1.0f;
  int64_t v_dim = 0;
  int64_t window = 0;  // > 0: a query sees the last `window` positions, itself included
  int64_t chunk = 0;   // > 0: a query sees only positions of its own multiple of `chunk` (Llama-4)
  Tensor sinks = {};   // f32 [heads] or undefined: exp(sink) joins the softmax's denominator (gpt-oss)
};

// cos and sin of every position, f32 [max_positions, rotary_dim / 2], any attention scaling already multiplied in.
struct RopeTable {
  Tensor cos;
  Tensor sin;
  bool interleaved = false;  // pairs (2i, 2i+1) instead of (i, i + rotary_dim/2)
};

enum class Scoring : uint8_t { kSoftmax, kSigmoid };
enum class GroupScore : uint8_t { kMax, kTopTwoSum };  // DeepSeek-V2; DeepSeek-V3 and GLM-4

// Router semantics (docs of each family in model/). Ties go to the lowest id.
struct RouterSpec {
  int64_t experts = 0;
  int64_t top_k = 1;
  Scoring scoring = Scoring::kSoftmax;
  bool softmax_over_chosen = false;  // gpt-oss and Mixtral: softmax of the chosen logits only
  bool renormalise = false;          // weights divided by their sum (+ 1e-20 for sigmoid)
  float scale = 1.0f;                // routed_scaling_factor
  int64_t groups = 1;                // device-limited routing: choose `top_groups` groups first
  int64_t top_groups = 1;
  GroupScore group_score = GroupScore::kMax;
  bool masked_is_zero = true;   // scores of masked groups: 0 (reference code) rather than minus infinity
  Tensor correction_bias = {};  // f32 [experts] or undefined: selects, never weighs
};

enum class GateKind : uint8_t {
  kSilu,         // silu(gate) * up
  kClampedSwish  // gpt-oss: g = min(gate, limit), u = clamp(up, -limit, limit); g * sigmoid(1.702 g) * (u + 1)
};
struct GateSpec {
  GateKind kind = GateKind::kSilu;
  float limit = 7.0f;
};

}  // namespace shoal
