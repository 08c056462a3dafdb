// SPDX-License-Identifier: Apache-2.0
#include "parallel/placement.h"

#include <string>

#include "base/error.h"
#include "parallel/cuts.h"

namespace shoal {

Placement Placement::contiguous(int64_t experts, int64_t ep) {
  CHECK(experts >= 1 && ep >= 1);
  const int64_t slots_per_rank = (experts + ep - 1) / ep;
  std::vector<ExpertId> expert_of_slot(slots_per_rank * ep, kNoExpert);
  for (int64_t rank = 0; rank < ep; ++rank) {
    const Range own = front_loaded_part(experts, rank, ep);
    for (int64_t expert = own.begin; expert < own.end; ++expert) {
      expert_of_slot[rank * slots_per_rank + expert - own.begin] = {static_cast<int32_t>(expert)};
    }
  }
  return Placement(std::move(expert_of_slot), experts, ep);
}

Placement Placement::wrapped(int64_t experts, int64_t slots, int64_t ep) {
  CHECK(experts >= 1 && ep >= 1 && slots >= experts && slots % ep == 0);
  std::vector<ExpertId> expert_of_slot;
  for (int64_t rank = 0; rank < ep; ++rank)
    for (int64_t j = 0; j < slots / ep; ++j)
      expert_of_slot.push_back({static_cast<int32_t>((rank * experts / ep + j) % experts)});
  return Placement(std::move(expert_of_slot), experts, ep);
}

Placement::Placement(std::vector<ExpertId> expert_of_slot, int64_t experts, int64_t ep)
    : expert_of_slot_(std::move(expert_of_slot)) {
  CHECK(experts >= 1 && ep >= 1);
  Problems problems;
  const int64_t slots = this->slots();
  if (slots == 0 || slots % ep != 0) {
    const int64_t below = slots / ep * ep;
    problems.add(std::to_string(slots) + " slots cannot be shared evenly by " + std::to_string(ep) +
                 " expert-parallel ranks; nearest: " + (below > 0 ? std::to_string(below) + " or " : "") +
                 std::to_string(below + ep));
  }
  slots_of_expert_.resize(experts);
  for (int64_t slot = 0; slot < slots; ++slot) {
    const ExpertId expert = expert_of_slot_[slot];
    if (expert == kNoExpert) continue;
    if (expert.value < 0 || expert.value >= experts) {
      problems.add("slot " + std::to_string(slot) + " holds expert " + std::to_string(expert.value) +
                   ", must be from 0 to " + std::to_string(experts - 1) + ", or -1 for an empty slot");
      continue;
    }
    slots_of_expert_[expert.value].push_back({static_cast<int32_t>(slot)});
  }
  for (int64_t expert = 0; expert < experts; ++expert) {
    replicated_ = replicated_ || slots_of_expert_[expert].size() > 1;
    if (slots_of_expert_[expert].empty()) problems.add("expert " + std::to_string(expert) + " is in no slot");
  }
  problems.throw_if_any("this placement of experts cannot be used");
  slots_per_rank_ = slots / ep;
}

std::vector<ExpertId> Placement::on_rank(int64_t ep_rank) const {
  CHECK(0 <= ep_rank && ep_rank < ep());
  const auto first = expert_of_slot_.begin() + ep_rank * slots_per_rank_;
  return {first, first + slots_per_rank_};
}

}  // namespace shoal
