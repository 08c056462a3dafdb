// SPDX-License-Identifier: Apache-2.0
// SlotBoard: a placement while it is being made or changed. Slots may be empty and experts may be missing until placement() is called.
// Invariant: copies() and holds() agree with the slots. Not here: what goes where (balance.cc, replan.cc).
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "parallel/placement.h"

namespace shoal {

class SlotBoard {
 public:
  SlotBoard(int64_t experts, int64_t ep, int64_t slots_per_rank)
      : ep_(ep),
        slots_per_rank_(slots_per_rank),
        expert_of_slot_(ep * slots_per_rank, kNoExpert.value),
        copies_(experts),
        copies_on_rank_(ep * experts) {}

  explicit SlotBoard(const Placement& placement)
      : SlotBoard(placement.experts(), placement.ep(), placement.slots_per_rank()) {
    for (int32_t slot = 0; slot < slots(); ++slot) set(slot, placement.expert({slot}).value);
  }

  int64_t experts() const { return static_cast<int64_t>(copies_.size()); }
  int64_t ep() const { return ep_; }
  int64_t slots_per_rank() const { return slots_per_rank_; }
  int64_t slots() const { return static_cast<int64_t>(expert_of_slot_.size()); }
  int64_t rank_of(int64_t slot) const { return slot / slots_per_rank_; }

  // -1: empty.
  int32_t expert(int64_t slot) const { return expert_of_slot_[slot]; }
  int32_t copies(int64_t expert) const { return copies_[expert]; }
  bool holds(int64_t rank, int64_t expert) const { return copies_on_rank_[rank * experts() + expert] > 0; }
  // The first empty slot of a rank, or -1.
  int64_t empty_slot(int64_t rank) const {
    for (int64_t slot = rank * slots_per_rank_; slot < (rank + 1) * slots_per_rank_; ++slot) {
      if (expert_of_slot_[slot] < 0) return slot;
    }
    return -1;
  }

  void set(int64_t slot, int32_t expert) {
    count(slot, -1);
    expert_of_slot_[slot] = expert;
    count(slot, 1);
  }
  void swap(int64_t a, int64_t b) {
    const int32_t expert = expert_of_slot_[a];
    set(a, expert_of_slot_[b]);
    set(b, expert);
  }

  Placement placement() const {
    std::vector<ExpertId> experts_of_slots;
    experts_of_slots.reserve(expert_of_slot_.size());
    for (const int32_t expert : expert_of_slot_) experts_of_slots.push_back({expert});
    return Placement(std::move(experts_of_slots), experts(), ep_);
  }

 private:
  void count(int64_t slot, int32_t change) {
    const int32_t expert = expert_of_slot_[slot];
    if (expert < 0) return;
    copies_[expert] += change;
    copies_on_rank_[rank_of(slot) * experts() + expert] += change;
  }

  int64_t ep_;
  int64_t slots_per_rank_;
  std::vector<int32_t> expert_of_slot_;
  std::vector<int32_t> copies_;          // [experts]
  std::vector<int32_t> copies_on_rank_;  // [ep, experts]
};

}  // namespace shoal
