// SPDX-License-Identifier: Apache-2.0
// Placement: which expert each slot of one MoE layer holds. Experts are the model's; slots are the engine's places for
// copies of them. Slot s lives on EP rank s / slots_per_rank. An empty slot holds kNoExpert. Immutable and pure: a new
// placement is a new value. Not here: which placement is good (the balancer), and moving weights.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

namespace shoal {

// Distinct types, so that one is never used for the other.
struct ExpertId {
  int32_t value = -1;
  auto operator<=>(const ExpertId&) const = default;  // NOLINT(modernize-use-nullptr)
};
struct SlotId {
  int32_t value = -1;
  auto operator<=>(const SlotId&) const = default;  // NOLINT(modernize-use-nullptr)
};
inline constexpr ExpertId kNoExpert{-1};

class Placement {
 public:
  // Every expert once: contiguous, the first (experts mod ep) ranks hold one more; slots = ceil(experts / ep) * ep.
  static Placement contiguous(int64_t experts, int64_t ep);
  // For any number of slots, where no assignment is given: slot j of rank r holds expert (r * experts / ep + j) mod experts, as in
  // TensorRT-LLM. Needs slots >= experts, divisible by ep.
  static Placement wrapped(int64_t experts, int64_t slots, int64_t ep);
  // expert_of_slot[s]; size divisible by ep; every expert at least once (Error otherwise).
  Placement(std::vector<ExpertId> expert_of_slot, int64_t experts, int64_t ep);

  int64_t experts() const { return static_cast<int64_t>(slots_of_expert_.size()); }
  int64_t slots() const { return static_cast<int64_t>(expert_of_slot_.size()); }
  int64_t slots_per_rank() const { return slots_per_rank_; }
  int64_t ep() const { return slots() / slots_per_rank_; }
  ExpertId expert(SlotId slot) const { return expert_of_slot_[slot.value]; }
  const std::vector<SlotId>& slots_of(ExpertId expert) const { return slots_of_expert_[expert.value]; }
  int64_t rank_of(SlotId slot) const { return slot.value / slots_per_rank_; }
  bool replicated() const { return replicated_; }  // whether any expert has several slots
  // Experts of one EP rank's slots, in slot order, empty slots included.
  std::vector<ExpertId> on_rank(int64_t ep_rank) const;
  bool operator==(const Placement&) const = default;

 private:
  std::vector<ExpertId> expert_of_slot_;
  std::vector<std::vector<SlotId>> slots_of_expert_;
  int64_t slots_per_rank_ = 1;
  bool replicated_ = false;
};

}  // namespace shoal
