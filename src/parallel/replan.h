// SPDX-License-Identifier: Apache-2.0
// replan_placement: the few copies of experts to move so that a layer that is running becomes balanced again. It starts from the placement
// in use and changes single slots, so whatever need not move stays in its slot. Moves are found one at a time, each the one that takes most
// load off the ranks above the target for each copy it costs; then the beginning of that list is kept which gains most after paying for its
// copies, which may be none of it.
// Invariants: deterministic; the result holds every expert; never more than `max_copies` slots change; pure.
// Not here: moving weights, and when to ask.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "parallel/balance.h"
#include "parallel/placement.h"

namespace shoal {

struct ReplanOptions {
  double target = 0.02;  // imbalance (max/mean - 1) at which the search stops
  int64_t max_copies = std::numeric_limits<int64_t>::max();
  // What one copy costs, in imbalance: seconds that a copy takes / (seconds of the layer's experts in a step * steps until the next plan).
  double price_per_copy = 0;
};

// Slot `to` gets a new expert, whose weights are in slot `from` of the old placement.
struct SlotChange {
  SlotId to;
  SlotId from;
  ExpertId expert;
};

struct Replan {
  Placement placement;
  double imbalance_before = 0;  // as ReplicaSplit divides the loads, mean over batches where there are some
  double imbalance_after = 0;
  int64_t copies = 0;  // that come from another rank
};

Replan replan_placement(const Placement& current, const LayerLoads& loads, const ReplanOptions& options);

// Slots of `next` whose expert differs from `current`'s, by slot. Copies on the same rank are preferred as source. Slots that become
// empty are left out. The grids must be equal.
std::vector<SlotChange> slot_changes(const Placement& current, const Placement& next);
// Copies that a rank does not hold yet: what a switch sends between ranks, wherever in its slots a rank keeps them.
int64_t copies_between_ranks(const Placement& current, const Placement& next);
// `planned` with each rank's experts in the slots that hold them in `current` already.
Placement keep_slots(const Placement& current, const Placement& planned);

}  // namespace shoal
