// SPDX-License-Identifier: Apache-2.0
// What placements of experts do to recorded loads: by policy, how heavy the heaviest rank is on the mean loads and batch by batch, and what a
// change from one workload to another costs. A policy is a planner and a way to share tokens among copies. Not here: printing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/expert_statistics.h"
#include "parallel/balance.h"
#include "parallel/batch_draw.h"
#include "parallel/placement.h"
#include "parallel/replan.h"

namespace shoal {

struct SimulationOptions {
  SlotGrid grid;
  int64_t groups = 0;  // consecutive experts that the hierarchical policy keeps together; 0: without that policy
  int64_t batches = 8;
  int64_t plan_batches = 0;        // given to this engine's planners, others than those that they are judged by
  int64_t tokens_per_rank = 1024;  // routed copies, of drawn batches
  double concentration = kMeasuredConcentration;
  ReplanOptions replan;
};

// One recording: for each layer its mean loads and the batches to be judged by: recorded iterations where there are several, else drawn.
struct Workload {
  struct Layer {
    std::vector<double> mean;
    std::vector<std::vector<int64_t>> batches;
    std::vector<std::vector<int64_t>> plan_batches;
  };
  std::string name;
  std::vector<int64_t> layer_ids;
  std::vector<Layer> layers;
};
Workload make_workload(std::string name, const ExpertStatistics& statistics, const SimulationOptions& options);
// One workload, or with `window` > 0 one of each so many iterations; what is left over at the end belongs to the last.
std::vector<Workload> make_workloads(const std::string& name, const ExpertStatistics& statistics, int64_t window,
                                     const SimulationOptions& options);

// The same, where each layer's experts have become more or less busy by factors exp(sigma x normal).
ExpertStatistics drifted(ExpertStatistics statistics, double sigma);

enum class Policy { kInOrder, kGreedy, kHierarchical, kShoal };
const char* policy_name(Policy policy);
std::vector<Policy> policies(const SimulationOptions& options);

// Averages over layers; worst: of the layers. Imbalance is max / mean - 1 over ranks.
struct PolicyResult {
  double mean_imbalance = 0;
  double worst_imbalance = 0;
  double batch_imbalance = 0;
  double plan_us = 0;  // median
};
struct PlacedWorkload {
  std::vector<Placement> placements;  // by layer
  PolicyResult result;
};

// A workload's own placements.
PlacedWorkload place_workload(Policy policy, const Workload& workload, const SimulationOptions& options);
// Tokens of each rank, as the policy shares them.
std::vector<int64_t> tokens_of_ranks(Policy policy, const Placement& placement, const std::vector<int64_t>& tokens);

// From placements made for one workload to those for another.
struct SwitchResult {
  PolicyResult stale;          // the new workload on the old placements
  PlacedWorkload placed = {};  // and on the new ones; plan_us: of re-planning
  double copies = 0;           // moved between ranks, average of the layers
  int64_t most_received = 0;   // copies into the rank that gets most, all layers together
};
SwitchResult switch_workload(Policy policy, const PlacedWorkload& from, const Workload& to,
                             const SimulationOptions& options);

}  // namespace shoal
