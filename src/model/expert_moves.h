// SPDX-License-Identifier: Apache-2.0
// Experts that move between slots while requests run, as a step carries them: which layers begin to use another placement with this step,
// and which copies go on once every rank has done it. A layer flips between two of its uses, on every rank with the same step; until then
// copies go into room that nothing reads, on a thread that no step waits for.
// Not here: which moves are good and when they begin (engine/expert_mover.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/ops.h"
#include "parallel/placement.h"

namespace shoal {

// What one slot of one rank holds; undefined if it is empty. Cheap to copy (shares the memory).
struct ExpertWeights {
  Matrix gate_up;
  Matrix down;
  Tensor gate_up_bias;  // of models that have one

  bool defined() const { return gate_up.defined(); }
  int64_t bytes() const { return defined() ? gate_up.bytes() + down.bytes() : 0; }
};

// One expert's slice on its way into room on another rank. One thread copies, in as many pieces as it likes; `state` says to others when
// it will touch neither side any more.
struct ExpertCopy {
  enum class State : uint8_t { kCopying, kDone, kGivenUp };
  ExpertWeights from;
  ExpertWeights to;
  int64_t copied_bytes = 0;  // the copying thread's
  std::atomic<State> state = State::kCopying;
  std::shared_ptr<std::atomic<bool>> abandoned;  // the layer's other copies failed: give up as well
};

// A layer that uses another placement from this step on.
struct LayerFlip {
  struct Change {
    int32_t local_slot = 0;
    ExpertWeights weights;
  };
  int64_t layer = 0;
  std::shared_ptr<const Placement> placement;
  std::vector<std::vector<Change>> changes;  // by rank of the replica
};

// How much copies may take of a core while one step runs, and what they took.
struct CopyLimits {
  double seconds = 1e-3;  // that the copying thread computes
  int64_t bytes = int64_t{16} << 20;
};
struct CopyReport {
  int64_t bytes = 0;
  double seconds = 0;
};

struct ExpertStep {
  std::vector<LayerFlip> flips;                     // before the step
  std::vector<std::shared_ptr<ExpertCopy>> copies;  // when every rank has done it: nothing reads their room any more
};

// Goes on with the copies, one after the other, until they are done, the limits are reached or it is to stop; at least one small piece. A
// copy that throws is given up, and with it its layer's others.
CopyReport run_copies(std::span<const std::shared_ptr<ExpertCopy>> copies, const CopyLimits& limits, Backend& backend,
                      const std::atomic<bool>& stopping);

// Routed picks of one layer on one rank since the start.
struct LayerPicks {
  std::vector<int64_t>
      by_expert;          // of the tokens that this rank counts: each token is counted on one rank of the stage
  int64_t computed = 0;   // by this rank's slots, whoever counted them
  int64_t most_rows = 0;  // that one call brought to this rank's slots
  // [tokens, top_k] of the last step, of those that `by_expert` counts; absent: not kept (ModelOptions::keep_selections).
  std::optional<std::vector<int32_t>> selections = {};
};

}  // namespace shoal
