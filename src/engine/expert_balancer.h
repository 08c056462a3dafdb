// SPDX-License-Identifier: Apache-2.0
// ExpertBalancer of one replica: gathers what the ranks count, and online lets experts move while requests run. A thread of its own plans
// (parallel/replan.h) from recent loads; the replica's thread attaches what moves to the steps (expert_mover.h), so that every rank does it
// with the same step; the ranks copy after a step's results are out, within `max_stall_ms`.
// Invariants: a plan is made from the placement that it changes, and a layer has one at a time; nothing that a rank or the replica calls
// here waits for planning. Without `online` it only counts.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "engine/expert_meter.h"
#include "engine/expert_mover.h"

namespace shoal {

struct BalancerSettings {
  bool online = false;
  MoverLimits limits;
};

// As of now, of one replica.
struct ExpertStatus {
  std::map<int64_t, std::vector<int32_t>> slots;             // layer -> expert of each slot
  std::map<int64_t, std::vector<double>> by_expert;          // recent loads
  std::map<int64_t, std::vector<double>> by_ep_rank;         // recent picks that each computed
  std::map<int64_t, std::vector<int64_t>> picks_by_ep_rank;  // since the start
  bool online = false;                                       // experts move
  MoveCounts moves;
  int64_t plans = 0;             // layers looked at
  double planning_seconds = 0;   // of the thread that plans
  double counting_seconds = 0;   // of all ranks together, for loads and statistics
  double longest_wait_ms = 0;    // of a step for copies
  double wait_seconds = 0;       // of all steps, for copies
  std::deque<StepRecord> steps;  // the last ones
};

class ExpertBalancer {
 public:
  ExpertBalancer(const Mesh& mesh, ExpertShelf shelf, const BalancerSettings& settings);
  ~ExpertBalancer();

  // Replica's thread, for each step in order: what it carries; null: nothing.
  std::shared_ptr<const ExpertStep> next_step(int64_t step);
  // Ranks' threads, after a step.
  void report(const RankReport& report);
  // Any thread.
  ExpertStatus status() const;
  ExpertStatus status_without_steps() const;  // at a cost that does not grow with them
  // Counts of steps begin <= i < end are kept until they are taken (ExpertMeter).
  void record(int64_t begin, int64_t end);
  std::vector<ExpertMeter::Counts> take_recorded();

 private:
  using Clock = std::chrono::steady_clock;
  struct Job {
    int64_t layer = 0;
    std::shared_ptr<const Placement> now;
    std::vector<double> loads;
  };
  void plan();
  std::vector<Job> due();
  void plan_layer(const Job& job, double price);
  double price_per_copy() const;

  const Mesh mesh_;
  const BalancerSettings settings_;
  ExpertMover mover_;  // the replica's thread's

  mutable std::mutex mutex_;  // for what follows
  std::condition_variable wake_;
  ExpertMeter meter_;
  std::map<int64_t, std::shared_ptr<const Placement>> placements_;
  std::map<int64_t, int64_t> planned_at_;      // picks of the layer at its last plan
  std::map<int64_t, int64_t> flips_;           // of steps that are not complete
  std::set<int64_t> busy_;                     // layers that are asked for or move
  std::map<int64_t, Placement> requests_;      // for the replica's thread
  int64_t expert_bytes_ = 0;                   // largest slice of an expert on a rank
  double step_seconds_ = 0, copy_rate_ = 4e9;  // measured, smoothed; bytes a second
  Clock::time_point last_step_;
  ExpertStatus status_;  // without what is made on demand
  std::deque<StepRecord> steps_;
  bool stopping_ = false;

  std::thread planner_;
};

}  // namespace shoal
