// SPDX-License-Identifier: Apache-2.0
#include "parallel/slot_choice.h"

#include "base/error.h"

namespace shoal {

SlotChoice::SlotChoice(const Placement& placement) : cursors_(placement.experts()), split_(placement) {
  first_slot_.push_back(0);
  for (int32_t expert = 0; expert < placement.experts(); ++expert) {
    for (const SlotId slot : placement.slots_of({expert})) slots_.push_back(slot.value);
    first_slot_.push_back(static_cast<int32_t>(slots_.size()));
  }
}

void SlotChoice::begin(std::span<const int64_t> totals, std::span<const int64_t> before) {
  CHECK_EQ(totals.size(), cursors_.size());
  CHECK_EQ(before.size(), cursors_.size());
  const std::span<const int64_t> quota = split_.split(totals);
  quota_.assign(quota.begin(), quota.end());
  for (size_t expert = 0; expert < cursors_.size(); ++expert) {
    Cursor& cursor = cursors_[expert];
    cursor.slot = first_slot_[expert];
    cursor.left = quota_[slots_[cursor.slot]] - before[expert];
    // Lower ranks have used up these slots, and a part of the next one.
    while (cursor.left <= 0 && cursor.slot + 1 < first_slot_[expert + 1]) cursor.left += quota_[slots_[++cursor.slot]];
  }
}

void SlotChoice::choose(std::span<const int32_t> experts, std::span<int32_t> slots) {
  CHECK_EQ(experts.size(), slots.size());
  for (size_t i = 0; i < experts.size(); ++i) {
    const int32_t expert = experts[i];
    if (expert < 0) {
      slots[i] = -1;
      continue;
    }
    Cursor& cursor = cursors_[expert];
    while (cursor.left == 0 && cursor.slot + 1 < first_slot_[expert + 1]) cursor.left = quota_[slots_[++cursor.slot]];
    --cursor.left;
    slots[i] = slots_[cursor.slot];
  }
}

}  // namespace shoal
