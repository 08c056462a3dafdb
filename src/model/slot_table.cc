// SPDX-License-Identifier: Apache-2.0
#include "model/slot_table.h"

namespace shoal {

SlotTable::SlotTable(std::shared_ptr<const Placement> placement, int64_t ep_rank, Backend& backend)
    : placement_(std::move(placement)), first_(static_cast<int32_t>(ep_rank * placement_->slots_per_rank())) {
  if (placement_->replicated()) {
    choice_ = std::make_unique<SlotChoice>(*placement_);
    return;
  }
  std::vector<int32_t> slots;
  for (int32_t expert = 0; expert < placement_->experts(); ++expert)
    slots.push_back(placement_->slots_of({expert}).front().value);
  global_slots_ = backend.from_host(slots, {placement_->experts()});
  const auto per_rank = static_cast<int32_t>(placement_->slots_per_rank());
  for (int32_t& slot : slots) slot = first_ <= slot && slot < first_ + per_rank ? slot - first_ : -1;
  local_slots_ = backend.from_host(slots, {placement_->experts()});
}

std::vector<int64_t> SlotTable::counts(const std::vector<int32_t>& experts) const {
  std::vector<int64_t> result(placement_->experts());
  for (const int32_t expert : experts) ++result[expert];
  return result;
}

Tensor SlotTable::global(const Tensor& experts, Comm& homes, Backend& backend) const {
  if (!choice_) return backend.lookup(experts, global_slots_);
  std::vector<int32_t> picks = backend.to_host_ids(experts);
  const std::vector<std::vector<int64_t>> by_home = homes.all_gather_counts(counts(picks));
  std::vector<int64_t> totals(placement_->experts()), before(placement_->experts());
  for (int home = 0; home < homes.size(); ++home) {
    for (size_t expert = 0; expert < totals.size(); ++expert) {
      if (home == homes.rank()) before[expert] = totals[expert];
      totals[expert] += by_home[home][expert];
    }
  }
  choice_->begin(totals, before);
  choice_->choose(picks, picks);
  return backend.from_host(picks, experts.shape());
}

Tensor SlotTable::local(const Tensor& experts, Backend& backend) const {
  if (!choice_) return backend.lookup(experts, local_slots_);
  std::vector<int32_t> picks = backend.to_host_ids(experts);
  choice_->begin(counts(picks), std::vector<int64_t>(placement_->experts()));
  choice_->choose(picks, picks);
  const auto per_rank = static_cast<int32_t>(placement_->slots_per_rank());
  for (int32_t& slot : picks) slot = first_ <= slot && slot < first_ + per_rank ? slot - first_ : -1;
  return backend.from_host(picks, experts.shape());
}

}  // namespace shoal
