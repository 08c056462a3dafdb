// SPDX-License-Identifier: Apache-2.0
// One step on one rank: layers that change their placement do so, then receive from the previous stage, compute, send on, or hand the
// logits over.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/expert_balancer.h"
#include "engine/rank_world.h"
#include "engine/scheduler.h"

namespace shoal {

class StepSink;

struct StepTask {
  ScheduledStep step;
  StepSink* sink = nullptr;
  std::shared_ptr<ExpertBalancer> experts;      // of a model with routed experts: hears of every step
  int first_rank = 0;                           // of the replica
  RankMeter::Clock::time_point busy_since;      // since when the replica has had steps in flight
  std::vector<std::shared_ptr<void>> requests;  // keeps the entries' sequences alive
};

class StepSink {
 public:
  virtual ~StepSink() = default;
  // On the thread of each rank of the group in the first stage, for a step planned ahead: waits for the tokens that earlier steps sample,
  // and puts them into the batch, which no later stage reads. CommError if they do not come.
  virtual void fill_tokens(StepTask& task, int rank, int group) = 0;
  // The others on the thread of the leading rank of the group in the last stage.
  // f32 [Batch::logit_rows, vocab] of the group; not called if there are none.
  virtual void on_logits(const StepTask& task, int group, std::span<const float> logits) = 0;
  // The group has finished the step; called for every group, also one without rows.
  virtual void on_done(const StepTask& task, int group) = 0;
};

void run_step(RankState& state, StepTask& task);

}  // namespace shoal
