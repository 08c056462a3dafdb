// SPDX-License-Identifier: Apache-2.0
// ExpertBalancer of one replica: gathers what the ranks count, and online lets experts move while requests run. A background thread plans
// (parallel/replan.h) from recent loads and batches; the replica's thread attaches what moves to the steps (expert_mover.h), so that every
// rank does it with the same step; a second background thread copies, as much as `copies` allows for each step that is done.
// Invariants: a plan is made from the placement that it changes, and a layer has one at a time; nothing that a rank or the replica calls
// here waits for planning or copying, and no lock that they take is ever held by a background thread. Without `online` it only counts.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "backend/factory.h"
#include "base/background_thread.h"
#include "engine/expert_meter.h"
#include "engine/expert_mover.h"
#include "parallel/balance.h"

namespace shoal {

struct BalancerSettings {
  bool online = false;
  int64_t layers = 1;      // that move at a time
  CopyLimits copies;       // for each step
  BackendOptions backend;  // that copies
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
  double copying_seconds = 0;    // of the thread that copies, computing
  double counting_seconds = 0;   // of all ranks together, for loads and statistics
  double longest_wait_ms = 0;    // of a step for moves (StepRecord::wait_seconds)
  double wait_seconds = 0;       // of all steps for moves
  std::deque<StepRecord> steps;  // the last ones
};

class ExpertBalancer {
 public:
  ExpertBalancer(const Mesh& mesh, ExpertShelf shelf, const BalancerSettings& settings);

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
    LayerLoads loads;
    double price = 0;  // of a copy
  };
  struct Planned {
    int64_t layer = 0;
    std::optional<Placement> target;  // none: it stays
  };
  // What a step that is not complete yet carries.
  struct Attached {
    std::shared_ptr<const ExpertStep> moves;
    double seconds = 0;  // until the replica's thread had it
  };
  struct Background;

  void finish_step(StepRecord& record);
  Attached take_attached(int64_t step);
  void note(StepRecord& record);
  std::vector<Job> due();
  void plan_layer(const Job& job);
  double price_per_copy() const;

  const Mesh mesh_;
  const BalancerSettings settings_;
  ExpertMover mover_;          // the replica's thread's
  std::set<int64_t> moving_;   // the replica's thread's: layers that the mover was asked for
  int64_t expert_bytes_ = 0;   // largest slice of an expert on a rank
  HandOver<Planned> planned_;  // for the replica's thread
  std::atomic<int64_t> plans_ = 0, planning_ns_ = 0, copied_bytes_ = 0, copying_ns_ = 0;

  mutable std::mutex meter_mutex_;  // for what follows; taken before state_mutex_
  ExpertMeter meter_;
  std::map<int64_t, int64_t> planned_at_;  // picks of the layer at its last plan
  int64_t last_due_ = -1;
  double step_seconds_ = 0;                 // smoothed
  double steps_seconds_ = 0;                // of all
  int64_t noted_bytes_ = 0, noted_ns_ = 0;  // of copies, in earlier records
  Clock::time_point last_step_;
  double counting_seconds_ = 0, longest_wait_ms_ = 0, wait_seconds_ = 0;
  std::deque<StepRecord> steps_;

  mutable std::mutex state_mutex_;  // for what follows; never held for long
  std::map<int64_t, std::shared_ptr<const Placement>> placements_;
  std::set<int64_t> busy_;  // layers that are being planned or move
  std::map<int64_t, Attached> attached_;
  MoveCounts moves_;

  std::shared_ptr<Background> background_;  // online; the last member: its threads use the others
};

}  // namespace shoal
