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
constexpr double kHorizonSteps = 256;        // for which a plan is expected to hold
constexpr double kExpertsShareOfStep = 0.5;  // of a step's time, over all layers
constexpr int64_t kMostCopiesOfRank = 4;     // of one plan, on average

}  // namespace

ExpertBalancer::ExpertBalancer(const Mesh& mesh, ExpertShelf shelf, const BalancerSettings& settings)
    : mesh_(mesh), settings_(settings), mover_(mesh, std::move(shelf), settings.limits), meter_(mesh) {
  for (const auto& [layer, held] : mover_.shelf().layers) {
    placements_[layer] = held.placement;
    for (const auto& [rank, slots] : held.slots)
      for (const ExpertWeights& weights : slots) expert_bytes_ = std::max(expert_bytes_, weights.bytes());
  }
  if (settings.online) planner_ = std::thread([this] { plan(); });
}

ExpertBalancer::~ExpertBalancer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (planner_.joinable()) planner_.join();
}

std::shared_ptr<const ExpertStep> ExpertBalancer::next_step(int64_t step) {
  if (!settings_.online) return nullptr;
  const std::lock_guard lock(mutex_);
  for (auto& [layer, target] : std::exchange(requests_, {})) mover_.request(layer, std::move(target));
  auto moves = mover_.next();
  std::erase_if(busy_, [&](int64_t layer) { return !requests_.contains(layer) && !mover_.moving(layer); });
  if (moves) {
    for (const LayerFlip& flip : moves->flips) placements_[flip.layer] = flip.placement;
    if (!moves->flips.empty()) flips_[step] = std::ssize(moves->flips);
  }
  status_.moves = mover_.counts();
  return moves;
}

void ExpertBalancer::report(const RankReport& report) {
  const std::lock_guard lock(mutex_);
  const Clock::time_point start = Clock::now();
  std::optional<StepRecord> record = meter_.add(report);
  const Clock::time_point now = Clock::now();
  status_.counting_seconds += std::chrono::duration<double>(now - start).count();
  if (report.copies.seconds > 0 && report.copies.bytes > 0)
    copy_rate_ = 0.9 * copy_rate_ + 0.1 * static_cast<double>(report.copies.bytes) / report.copies.seconds;
  if (!record) return;
  // An idle engine is no slow step.
  record->seconds = std::min(1.0, std::chrono::duration<double>(now - std::exchange(last_step_, now)).count());
  if (const auto flips = flips_.extract(record->step)) record->flips = flips.mapped();
  step_seconds_ = step_seconds_ == 0 ? record->seconds : 0.9 * step_seconds_ + 0.1 * record->seconds;
  status_.longest_wait_ms = std::max(status_.longest_wait_ms, 1e3 * record->wait_seconds);
  status_.wait_seconds += record->wait_seconds;
  steps_.push_back(*record);
  if (steps_.size() > kStepsKept) steps_.pop_front();
  if (settings_.online) wake_.notify_one();
}

ExpertStatus ExpertBalancer::status() const {
  ExpertStatus status = status_without_steps();
  const std::lock_guard lock(mutex_);
  status.steps = steps_;
  return status;
}

ExpertStatus ExpertBalancer::status_without_steps() const {
  const std::lock_guard lock(mutex_);
  ExpertStatus status = status_;
  status.online = settings_.online;
  status.by_expert = meter_.recent();
  status.picks_by_ep_rank = meter_.picks_by_rank();
  status.by_ep_rank = meter_.recent_by_rank();
  for (const auto& [layer, placement] : placements_)
    for (int32_t slot = 0; slot < placement->slots(); ++slot)
      status.slots[layer].push_back(placement->expert({slot}).value);
  return status;
}

void ExpertBalancer::record(int64_t begin, int64_t end) {
  const std::lock_guard lock(mutex_);
  meter_.record(begin, end);
}

std::vector<ExpertMeter::Counts> ExpertBalancer::take_recorded() {
  const std::lock_guard lock(mutex_);
  return meter_.take_recorded();
}

// --- the planner's thread

void ExpertBalancer::plan() {
  while (true) {
    std::vector<Job> jobs;
    double price = 0;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] {
        if (stopping_) return true;
        jobs = due();
        return !jobs.empty();
      });
      if (stopping_) return;
      price = price_per_copy();
    }
    for (const Job& job : jobs) plan_layer(job, price);
  }
}

// Layers that have seen enough since their last plan, and do not move.
std::vector<ExpertBalancer::Job> ExpertBalancer::due() {
  std::vector<Job> jobs;
  for (const auto& [layer, placement] : placements_) {
    const auto recent = meter_.recent().find(layer);
    if (recent == meter_.recent().end() || busy_.contains(layer)) continue;
    int64_t& planned_at = planned_at_[layer];
    const auto enough = static_cast<int64_t>(kPicksBetweenPlans * static_cast<double>(placement->experts()));
    if (meter_.picks(layer) - planned_at < enough) continue;
    planned_at = meter_.picks(layer);
    busy_.insert(layer);
    jobs.push_back({layer, placement, recent->second});
  }
  return jobs;
}

void ExpertBalancer::plan_layer(const Job& job, double price) {
  const Clock::time_point start = Clock::now();
  Replan replan =
      replan_placement(*job.now, {.mean = job.loads, .batches = {}},
                       {.target = kTarget, .max_copies = kMostCopiesOfRank * job.now->ep(), .price_per_copy = price});
  const std::lock_guard lock(mutex_);
  ++status_.plans;
  status_.planning_seconds += std::chrono::duration<double>(Clock::now() - start).count();
  if (replan.placement == *job.now) {
    busy_.erase(job.layer);
  } else {
    requests_.insert_or_assign(job.layer, std::move(replan.placement));
  }
}

// In imbalance of a layer over the steps that a plan is to hold; copies of different ranks run side by side.
double ExpertBalancer::price_per_copy() const {
  const double layers = static_cast<double>(std::max<size_t>(1, placements_.size()));
  const double experts_seconds = std::max(1e-6, kExpertsShareOfStep * step_seconds_ / layers);
  const double copy_seconds = static_cast<double>(expert_bytes_) / copy_rate_;
  return copy_seconds / static_cast<double>(mesh_.sizes().moe_expert) / (experts_seconds * kHorizonSteps);
}

}  // namespace shoal
