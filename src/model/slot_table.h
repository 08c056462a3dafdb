// SPDX-License-Identifier: Apache-2.0
// SlotTable: from experts to slots for one layer on one rank. Where every expert has one slot this is a look-up on the device; where some
// have several, the batch's picks are divided among them (parallel/slot_choice.h), the same on every rank. Immutable but for scratch
// memory: another placement is another table.
#pragma once

#include <memory>

#include "backend/ops.h"
#include "comm/comm.h"
#include "parallel/slot_choice.h"

namespace shoal {

class SlotTable {
 public:
  // `ep_rank`: whose slots are local.
  SlotTable(std::shared_ptr<const Placement> placement, int64_t ep_rank, Backend& backend);

  // i32 [tokens, top_k]: the global slot of each pick. `experts` are this rank's home tokens'; every rank of `homes` must call, and the
  // ranks say how many picks each has (one small message) if experts have several slots.
  Tensor global(const Tensor& experts, Comm& homes, Backend& backend) const;
  // i32 [tokens, top_k]: the local slot, or -1 where the pick is another rank's. `experts` are the same on every rank.
  Tensor local(const Tensor& experts, Backend& backend) const;

 private:
  std::vector<int64_t> counts(const std::vector<int32_t>& experts) const;

  std::shared_ptr<const Placement> placement_;
  int32_t first_;                       // global slot of local slot 0
  Tensor global_slots_;                 // i32 [experts], if each has one slot
  Tensor local_slots_;                  // i32 [experts], or -1
  std::unique_ptr<SlotChoice> choice_;  // else
};

}  // namespace shoal
