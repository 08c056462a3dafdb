// SPDX-License-Identifier: Apache-2.0
#include "engine/expert_balancer.h"

#include <algorithm>
#include <utility>

#include "parallel/replan.h"

namespace shoal {
namespace {

constexpr size_t kStepsKept = 4096;
constexpr double kTarget = 0.02;             // imbalance at which a plan is content
constexpr double kPicksBetweenPlans = 32;    // for each expert of the layer: a quarter of the meter's window
constexpr size_t kPlansOfStep = 1;           // begun
constexpr double kPlanningShare = 0.02;      // of a core, that planning takes while steps run
constexpr double kHorizonSteps = 256;        // for which a plan is expected to hold
constexpr double kExpertsShareOfStep = 0.5;  // of a step's time, over all layers
constexpr int64_t kMostCopiesOfRank = 4;     // of one plan, on average
constexpr double kCopyRate = 4e9;            // bytes a second, until there is a measurement
constexpr double kNanosecond = 1e-9;

}  // namespace

// Counts of copies are atomic, jobs and results are handed over: these threads take no lock.
struct ExpertBalancer::Background {
  explicit Background(ExpertBalancer& balancer)
      : backend(make_backend(balancer.settings_.backend)),
        copier([&balancer, this](const auto& steps, const auto& stopping) {
          const CopyReport done = run_copies(steps.back()->copies, balancer.settings_.copies, *backend, stopping);
          balancer.copied_bytes_ += done.bytes;
          balancer.copying_ns_ += static_cast<int64_t>(done.seconds / kNanosecond);
        }),
        planner([&balancer](const auto& jobs, const auto& stopping) {
          for (const Job& job : jobs)
            if (!stopping) balancer.plan_layer(job);
        }) {}

  std::unique_ptr<Backend> backend;
  BackgroundThread<std::shared_ptr<const ExpertStep>> copier;
  BackgroundThread<Job> planner;
};

ExpertBalancer::ExpertBalancer(const Mesh& mesh, ExpertShelf shelf, const BalancerSettings& settings)
    : mesh_(mesh), settings_(settings), mover_(mesh, std::move(shelf), settings.layers), meter_(mesh) {
  for (const auto& [layer, held] : mover_.shelf().layers) {
    placements_[layer] = held.placement;
    for (const auto& [rank, slots] : held.slots)
      for (const ExpertWeights& weights : slots) expert_bytes_ = std::max(expert_bytes_, weights.bytes());
  }
  if (settings.online) background_ = std::make_shared<Background>(*this);
}

std::shared_ptr<const ExpertStep> ExpertBalancer::next_step(int64_t step) {
  if (!settings_.online) return nullptr;
  const Clock::time_point start = Clock::now();
  std::vector<int64_t> free;  // layers that may be planned again
  for (Planned& planned : planned_.take()) {
    if (planned.target) {
      mover_.request(planned.layer, std::move(*planned.target));
      moving_.insert(planned.layer);
    } else {
      free.push_back(planned.layer);
    }
  }
  auto moves = mover_.next();
  std::erase_if(moving_, [&](int64_t layer) {
    if (mover_.moving(layer)) return false;
    free.push_back(layer);
    return true;
  });
  const std::lock_guard lock(state_mutex_);
  for (const int64_t layer : free) busy_.erase(layer);
  moves_ = mover_.counts();
  if (!moves) return nullptr;
  for (const LayerFlip& flip : moves->flips) placements_[flip.layer] = flip.placement;
  attached_[step] = {.moves = moves, .seconds = std::chrono::duration<double>(Clock::now() - start).count()};
  return moves;
}

void ExpertBalancer::report(const RankReport& report) {
  const std::lock_guard lock(meter_mutex_);
  const Clock::time_point start = Clock::now();
  if (std::optional<StepRecord> record = meter_.add(report)) finish_step(*record);
  counting_seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
}

void ExpertBalancer::finish_step(StepRecord& record) {
  const Attached attached = take_attached(record.step);
  record.wait_seconds += attached.seconds;
  if (attached.moves) record.flips = std::ssize(attached.moves->flips);
  note(record);
  if (!background_) return;
  if (attached.moves && !attached.moves->copies.empty()) background_->copier.post(attached.moves);
  for (Job& job : due()) background_->planner.post(std::move(job));
}

ExpertBalancer::Attached ExpertBalancer::take_attached(int64_t step) {
  const std::lock_guard lock(state_mutex_);
  auto found = attached_.extract(step);
  return found ? std::move(found.mapped()) : Attached{};
}

void ExpertBalancer::note(StepRecord& record) {
  const Clock::time_point now = Clock::now();
  // An idle engine is no slow step.
  record.seconds = std::min(1.0, std::chrono::duration<double>(now - std::exchange(last_step_, now)).count());
  const int64_t bytes = copied_bytes_, nanoseconds = copying_ns_;
  record.copied_bytes = bytes - std::exchange(noted_bytes_, bytes);
  record.copy_seconds = static_cast<double>(nanoseconds - std::exchange(noted_ns_, nanoseconds)) * kNanosecond;
  step_seconds_ = step_seconds_ == 0 ? record.seconds : 0.9 * step_seconds_ + 0.1 * record.seconds;
  steps_seconds_ += record.seconds;
  longest_wait_ms_ = std::max(longest_wait_ms_, 1e3 * record.wait_seconds);
  wait_seconds_ += record.wait_seconds;
  steps_.push_back(record);
  if (steps_.size() > kStepsKept) steps_.pop_front();
}

ExpertStatus ExpertBalancer::status() const {
  ExpertStatus status = status_without_steps();
  const std::lock_guard lock(meter_mutex_);
  status.steps = steps_;
  return status;
}

ExpertStatus ExpertBalancer::status_without_steps() const {
  ExpertStatus status;
  status.online = settings_.online;
  {
    const std::lock_guard lock(meter_mutex_);
    status.by_expert = meter_.recent();
    status.by_ep_rank = meter_.recent_by_rank();
    status.counting_seconds = counting_seconds_;
    status.picks_by_ep_rank = meter_.picks_by_rank();
    status.longest_wait_ms = longest_wait_ms_;
    status.wait_seconds = wait_seconds_;
  }
  status.plans = plans_;
  status.planning_seconds = static_cast<double>(planning_ns_) * kNanosecond;
  status.copying_seconds = static_cast<double>(copying_ns_) * kNanosecond;
  std::map<int64_t, std::shared_ptr<const Placement>> placements;
  {
    const std::lock_guard lock(state_mutex_);
    placements = placements_;
    status.moves = moves_;
  }
  for (const auto& [layer, placement] : placements)
    for (int32_t slot = 0; slot < placement->slots(); ++slot)
      status.slots[layer].push_back(placement->expert({slot}).value);
  return status;
}

void ExpertBalancer::record(int64_t begin, int64_t end) {
  const std::lock_guard lock(meter_mutex_);
  meter_.record(begin, end);
}

std::vector<ExpertMeter::Counts> ExpertBalancer::take_recorded() {
  const std::lock_guard lock(meter_mutex_);
  return meter_.take_recorded();
}

// Layers that have seen enough since their last plan, and do not move; in turn, so that no step has to gather for all, and never more than
// the planner's share of the time: where ranks outnumber cores it takes from them.
std::vector<ExpertBalancer::Job> ExpertBalancer::due() {
  if (static_cast<double>(planning_ns_) * kNanosecond > kPlanningShare * steps_seconds_) return {};
  const std::lock_guard lock(state_mutex_);
  const double price = price_per_copy();
  std::vector<Job> jobs;
  auto next = placements_.upper_bound(last_due_);
  for (size_t i = 0; i < placements_.size() && jobs.size() < kPlansOfStep; ++i, ++next) {
    if (next == placements_.end()) next = placements_.begin();
    const auto& [layer, placement] = *next;
    const auto recent = meter_.recent().find(layer);
    if (recent == meter_.recent().end() || busy_.contains(layer)) continue;
    int64_t& planned_at = planned_at_[layer];
    const auto enough = static_cast<int64_t>(kPicksBetweenPlans * static_cast<double>(placement->experts()));
    if (meter_.picks(layer) - planned_at < enough) continue;
    planned_at = meter_.picks(layer);
    busy_.insert(layer);
    last_due_ = layer;
    jobs.push_back({layer, placement, {.mean = recent->second, .batches = meter_.batches(layer)}, price});
  }
  return jobs;
}

// In imbalance of a layer over the steps that a plan is to hold; what a copy takes of a core is shared by the ranks.
double ExpertBalancer::price_per_copy() const {
  const double layers = static_cast<double>(std::max<size_t>(1, placements_.size()));
  const double experts_seconds = std::max(1e-6, kExpertsShareOfStep * step_seconds_ / layers);
  const double copied = static_cast<double>(copied_bytes_), seconds = static_cast<double>(copying_ns_) * kNanosecond;
  const double rate = copied > 0 && seconds > 0 ? copied / seconds : kCopyRate;  // failed copies take time only
  const double copy_seconds = static_cast<double>(expert_bytes_) / rate;
  return copy_seconds / static_cast<double>(mesh_.sizes().moe_expert) / (experts_seconds * kHorizonSteps);
}

// --- the planner's thread

void ExpertBalancer::plan_layer(const Job& job) {
  const Clock::time_point start = Clock::now();
  Replan replan = replan_placement(
      *job.now, job.loads,
      {.target = kTarget, .max_copies = kMostCopiesOfRank * job.now->ep(), .price_per_copy = job.price});
  ++plans_;
  planning_ns_ += std::chrono::nanoseconds(Clock::now() - start).count();
  Planned planned{.layer = job.layer, .target = {}};
  if (replan.placement != *job.now) planned.target = std::move(replan.placement);
  planned_.push(std::move(planned));
}

}  // namespace shoal
