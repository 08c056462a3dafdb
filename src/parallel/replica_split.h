// SPDX-License-Identifier: Apache-2.0
// ReplicaSplit: divides one batch's tokens among the slots of each expert so that the heaviest EP rank is as light as it can be made.
// Experts with slots on several ranks are visited in turn; each pours its tokens onto its ranks' other load like water ("water-filling"),
// which is exact for it while the others stand still. Repeated, this is Gauss-Seidel on the sum of squared rank loads, whose least value is
// also the least maximum, because the reachable rank loads are the bases of a polymatroid (Fujishige, Submodular Functions and Optimization,
// section 9.2).
// Invariants: whole tokens; an expert's slots sum to its tokens exactly; the result depends on placement and counts alone, so every rank
// that computes it gets the same; two copies of an expert on one rank count as one, the lower slot gets all. Nothing is allocated after
// the constructor. Not thread-safe: one object a thread. Not here: which of an expert's tokens go to which of its slots.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/placement.h"
#include "parallel/slot_board.h"

namespace shoal {

class ReplicaSplit {
 public:
  static constexpr int kPasses = 8;

  explicit ReplicaSplit(const Placement& placement);
  explicit ReplicaSplit(const SlotBoard& board);
  // For another board of the same grid, without allocating.
  void reset(const SlotBoard& board);

  // tokens_of_expert [experts], each >= 0. Returns tokens of each slot [slots]; valid until the next call.
  std::span<const int64_t> split(std::span<const int64_t> tokens_of_expert, int passes = kPasses);
  // Of the last split: [ep].
  std::span<const int64_t> tokens_of_rank() const { return tokens_of_rank_; }

  int64_t experts() const { return experts_; }

 private:
  // An expert's places are places_[first, first + count), one for each rank that holds it.
  struct Spread {
    int32_t expert = 0;
    int32_t first = 0;
    int32_t count = 0;
  };
  struct Place {
    int32_t slot = 0;
    int32_t rank = 0;
    int64_t other_tokens = 0;  // scratch: the rank's load without this expert
  };

  void add_expert(int32_t expert, int32_t begin, int32_t end);
  void start_evenly(const Spread& shared, int64_t tokens);
  // These return whether any slot's tokens change.
  bool pour(const Spread& shared, int64_t tokens);
  bool pour_in_two(const Spread& shared, int64_t tokens);

  int64_t experts_;
  std::vector<int32_t> next_place_;  // [experts], scratch of reset()
  std::vector<Place> places_;        // by expert; within one by slot, until pour() puts them in order of load
  std::vector<Spread> shared_;
  std::vector<Spread> sole_;  // experts on one rank only
  std::vector<int64_t> tokens_of_slot_;
  std::vector<int64_t> tokens_of_rank_;
};

// Tokens of each slot where each expert's copies share equally, the lower slots one more: what other engines do; for comparison.
std::vector<int64_t> even_split(const Placement& placement, std::span<const int64_t> tokens_of_expert);

}  // namespace shoal
