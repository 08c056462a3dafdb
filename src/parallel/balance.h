// SPDX-License-Identifier: Apache-2.0
// plan_placement: which expert each slot of one MoE layer should hold, from the experts' loads. Built for ReplicaSplit, which divides every
// batch anew: copies are given and spread so that load can flow from any rank to any other through experts that they share, and ranks are
// equally loaded even where copies share evenly.
// Invariants: deterministic; every expert has a slot; no rank holds an expert twice (slots that could only do that stay empty); pure.
// Not here: changing a placement that is in use (replan.h), dividing a batch (replica_split.h), other engines' planners (greedy_balance.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "parallel/placement.h"

namespace shoal {

// The slots of one layer: `slots` of all ranks together, a multiple of `ep` and at least the number of experts.
struct SlotGrid {
  int64_t ep = 1;
  int64_t slots = 1;
  // Hosts that share the ranks evenly, consecutive ranks together. Copies are laid over hosts so that most traffic finds one nearby;
  // only whole ranks change places for it, so balance is the same for any number of nodes.
  int64_t nodes = 1;
};

// Tokens routed to each expert, in any unit.
struct LayerLoads {
  std::vector<double> mean;  // [experts], each finite and >= 0
  // Tokens of some single batches, newest last; may be empty. They say how loads move together, which the mean cannot.
  std::vector<std::vector<int64_t>> batches = {};
};

// What is wrong with a grid for so many experts; empty: nothing. Each names value, rule and the nearest values that work.
std::vector<std::string> slot_grid_problems(int64_t experts, const SlotGrid& grid);

// Error if the grid cannot hold the experts.
Placement plan_placement(const LayerLoads& loads, const SlotGrid& grid);

// max / mean of what the ranks get, minus 1; 0 where there is no load.
double imbalance(std::span<const int64_t> tokens_of_rank);
// Of tokens_of_expert, as ReplicaSplit divides them.
double split_imbalance(const Placement& placement, std::span<const int64_t> tokens_of_expert);
// The same where copies share evenly, in fractions of tokens.
double even_imbalance(const Placement& placement, std::span<const double> load_of_expert);
// Whole numbers in proportion to `loads`, large enough for a split to be exact to six digits.
std::vector<int64_t> scaled_loads(std::span<const double> loads);

}  // namespace shoal
