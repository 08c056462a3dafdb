// SPDX-License-Identifier: Apache-2.0
// SlotChoice: which slot computes each pick of one batch, where experts have several. The batch's tokens are numbered over all ranks that
// hold them (home ranks ascending, then token order); an expert's slots, ascending, take as many of its picks in that order as ReplicaSplit
// allots to them. So ranks that agree on the counts agree on every slot, without a further message.
//
// Worked example: expert 5 has slots 2 and 9, the split allots 3 and 2; home rank 0 has 4 picks of it, rank 1 one. Rank 0 sends its first
// three to slot 2, the fourth to slot 9; rank 1 sends its own to slot 9.
//
// Pure but for scratch memory; one object a thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/replica_split.h"

namespace shoal {

class SlotChoice {
 public:
  explicit SlotChoice(const Placement& placement);

  // Before the picks of a batch are given: `totals` [experts] picks of all ranks; `before` [experts] those of lower home ranks.
  void begin(std::span<const int64_t> totals, std::span<const int64_t> before);
  // Slots of this rank's next picks, in token order; -1 stays -1.
  void choose(std::span<const int32_t> experts, std::span<int32_t> slots);

 private:
  // Where an expert's next pick goes: its index in slots_, and how many more go there.
  struct Cursor {
    int32_t slot = 0;
    int64_t left = 0;
  };

  std::vector<int32_t> first_slot_;  // [experts + 1] into slots_
  std::vector<int32_t> slots_;       // by expert, ascending
  std::vector<Cursor> cursors_;
  std::vector<int64_t> quota_;  // [slots] of the batch
  ReplicaSplit split_;
};

}  // namespace shoal
