// SPDX-License-Identifier: Apache-2.0
// How much a call of a MoE layer brings to a rank, and how much it may: steps' memory is planned for that (model/step_memory.h), and what a
// router piles on one rank beyond it goes in several calls.
#pragma once

#include <cstdint>

namespace shoal {

struct MoeLoad {
  int64_t rows = 0;   // tokens with a pick on the rank
  int64_t picks = 0;  // of its slots: products of a row with an expert
  bool within(const MoeLoad& bound) const { return rows <= bound.rows && picks <= bound.picks; }
};

// The bound for calls of up to `tokens` tokens, all homes together: a quarter more than a rank of `ep` gets of them when they pick at random,
// and a few rows, which is much of a small step; never more than there can be.
MoeLoad moe_load_bound(int64_t tokens, int64_t top_k, int64_t ep, int64_t slots_per_rank);

}  // namespace shoal
