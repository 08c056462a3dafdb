// SPDX-License-Identifier: Apache-2.0
#include "engine/rank_step.h"

#include <chrono>

#include "backend/host_values.h"

namespace shoal {
namespace {

void await_tokens(RankState& state, StepTask& task) {
  if (!state.first_stage || task.step.awaits[state.at.attn_dp] < 0) return;
  const auto begin = RankMeter::Clock::now();
  task.sink->fill_tokens(task, state.rank, state.at.attn_dp);
  state.meter->waited(RankMeter::Clock::now() - begin);
}

void compute(RankState& state, const StepTask& task) {
  const StepPlan& plan = task.step.plan;
  const Batch& batch = plan.groups[state.at.attn_dp];
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  Tensor hidden;
  if (!state.first_stage) {
    hidden = state.backend->empty(DType::kF32, {rows, state.hidden_size});
    if (rows > 0) state.pp->receive(hidden, state.pp->rank() - 1);
  }
  hidden = state.model->forward(plan, hidden);
  if (!state.last_stage) {
    if (rows > 0) state.pp->send(hidden, state.pp->rank() + 1);
    return;
  }
  const bool leader = state.at.attn_tp == 0 && state.at.cp == 0;
  if (!batch.logit_rows.empty()) {
    const Tensor logits = state.model->logits(plan, hidden);
    if (leader) task.sink->on_logits(task, state.at.attn_dp, HostValues(*state.backend, logits).get());
  }
  if (leader) task.sink->on_done(task, state.at.attn_dp);
}

// Returns the seconds it took.
double place_experts(RankState& state, const StepPlan& plan) {
  if (!plan.experts || plan.experts->flips.empty()) return 0;
  const auto start = std::chrono::steady_clock::now();
  state.model->place_experts(plan.experts->flips);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void run_step(RankState& state, StepTask& task) {
  const auto tokens = std::ssize(task.step.plan.groups[state.at.attn_dp].tokens);
  state.meter->begin_step(task.busy_since, tokens);
  const double flip_seconds = place_experts(state, task.step.plan);
  await_tokens(state, task);
  compute(state, task);
  if (task.experts)
    task.experts->report({.rank = state.rank - task.first_rank,
                          .step = task.step.plan.step,
                          .totals = state.model->expert_picks(),
                          .flip_seconds = flip_seconds});
  state.meter->end_step();
}

}  // namespace shoal
