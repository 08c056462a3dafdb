// SPDX-License-Identifier: Apache-2.0
// A named dimension of a model: its size, the unit that may not be divided, and what cuts it over ranks.
// A model's whole sharding is a table of these (model/dims.h); slices come from parallel/cuts.h.
#pragma once

#include <cstdint>
#include <string>

namespace shoal {

// What divides a dimension. A dimension with kNone is whole on every rank.
enum class Cut : uint8_t {
  kNone,
  kAttnTp,  // query heads: over the attention-TP ranks
  kKvHeads,  // KV heads: over the attention-TP ranks, each head repeated on consecutive ranks when there are fewer heads than ranks
  kFfnTp,    // dense FFN and shared experts
  kVocab,    // embedding rows and logits, over the ranks that work on the same tokens
  kMoeTp,    // each routed expert's intermediate dimension
  kExperts,  // whole experts, by Placement (parallel/placement.h), not by range
};

struct Dim {
  std::string name;
  int64_t size = 0;
  int64_t unit = 1;
  Cut cut = Cut::kNone;
};

// Half-open range of indices.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool contains(int64_t i) const { return begin <= i && i < end; }
  friend bool operator==(const Range&, const Range&) = default;
};

}  // namespace shoal
