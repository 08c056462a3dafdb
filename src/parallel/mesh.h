// SPDX-License-Identifier: Apache-2.0
// Mesh: where each rank stands in the grid. Pure functions of values.
//
//   world = data * pipeline * context * tensor          stage = context * tensor ranks
//   moe_tensor * moe_expert == tensor * context          attn_tp = tensor / attention_data
//
// Rank order: context fastest, then tensor, then pipeline; replicas (data) outermost. With r = rank mod stage:
//   cp = r mod context, tp = r div context; attn_dp = tp div attn_tp, attn_tp index = tp mod attn_tp;
//   moe_ep = r mod moe_expert, moe_tp = r div moe_expert: EP groups are consecutive, MoE-TP groups strided.
// Not here: what is cut along an axis (parallel/cuts.h), and the model's own limits (heads, experts, layers).
#pragma once

#include <string>
#include <vector>

#include "tensor/dim.h"
#include "tensor/partial.h"

namespace shoal {

// Ranks of a world at most; keeps every product of sizes in an int.
inline constexpr int kMaxRanks = 65536;

struct GridSizes {
  int data = 1;
  int pipeline = 1;
  int context = 1;
  int tensor = 1;
  int attention_data = 1;
  int moe_tensor = 1;
  int moe_expert = 1;
  friend bool operator==(const GridSizes&, const GridSizes&) = default;
};

struct Coordinates {
  int dp = 0;
  int pp = 0;
  int cp = 0;
  int tp = 0;
  int attn_dp = 0;
  int attn_tp = 0;
  int moe_tp = 0;
  int moe_ep = 0;
  friend bool operator==(const Coordinates&, const Coordinates&) = default;
};

// A rank's place in one of its groups.
struct GroupPlace {
  int index = 0;
  int size = 1;
  friend bool operator==(const GroupPlace&, const GroupPlace&) = default;
};

class Mesh {
 public:
  // Sizes must satisfy `grid_problems` (aborts otherwise: config is validated before).
  explicit Mesh(const GridSizes& sizes);

  const GridSizes& sizes() const { return sizes_; }
  int world_size() const { return sizes_.data * replica_size(); }
  int replica_size() const { return sizes_.pipeline * stage_size(); }
  int stage_size() const { return sizes_.context * sizes_.tensor; }
  int attn_tp_size() const { return sizes_.tensor / sizes_.attention_data; }

  Coordinates at(int rank) const;
  // Ranks of `rank`'s group along the axis, in group order; `rank` is one of them.
  std::vector<int> group(Axis axis, int rank) const;
  // group(axis, rank)[place.index] == rank, without making the list.
  GroupPlace place(Axis axis, int rank) const;

 private:
  GridSizes sizes_;
};

// Every violated equation of the grid, each with the value, the rule and the nearest values that would work.
std::vector<std::string> grid_problems(const GridSizes& sizes);

// The largest divisor of n that is not above `value` and the smallest that is not below it, ascending, without
// repetition.
std::vector<int64_t> nearest_divisors(int64_t n, int64_t value);

}  // namespace shoal
