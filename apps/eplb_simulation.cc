// SPDX-License-Identifier: Apache-2.0
#include "apps/eplb_simulation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "apps/eplb.h"
#include "base/error.h"
#include "parallel/greedy_balance.h"
#include "parallel/replica_split.h"

namespace shoal {
namespace {

constexpr uint64_t kSeed = 7;

Placement planned(Policy policy, const Workload::Layer& layer, const SimulationOptions& options) {
  const std::vector<double>& mean = layer.mean;
  switch (policy) {
    case Policy::kInOrder:
      return Placement::contiguous(static_cast<int64_t>(mean.size()), options.grid.ep);
    case Policy::kGreedy:
      return greedy_placement(mean, options.grid);
    case Policy::kHierarchical:
      return hierarchical_placement(mean, options.grid, options.groups);
    case Policy::kShoal:
      break;
  }
  return plan_placement({.mean = mean, .batches = layer.plan_batches}, options.grid);
}

template <typename F>
double microseconds(F&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

double mean_imbalance(Policy policy, const Placement& placement, const std::vector<double>& mean) {
  if (policy == Policy::kShoal) return split_imbalance(placement, scaled_loads(mean));
  return even_imbalance(placement, mean);
}

double batch_imbalance(Policy policy, const Placement& placement, const std::vector<std::vector<int64_t>>& batches) {
  double sum = 0;
  for (const std::vector<int64_t>& batch : batches) sum += imbalance(tokens_of_ranks(policy, placement, batch));
  return sum / static_cast<double>(batches.size());
}

PolicyResult judged(Policy policy, const std::vector<Placement>& placements, const Workload& workload) {
  PolicyResult result;
  const double layers = static_cast<double>(workload.layers.size());
  for (size_t i = 0; i < workload.layers.size(); ++i) {
    const double on_mean = mean_imbalance(policy, placements[i], workload.layers[i].mean);
    result.mean_imbalance += on_mean / layers;
    result.worst_imbalance = std::max(result.worst_imbalance, on_mean);
    result.batch_imbalance += batch_imbalance(policy, placements[i], workload.layers[i].batches) / layers;
  }
  return result;
}

// `count` recorded iterations, evenly spaced; `later` by half of the space between them.
std::vector<std::vector<int64_t>> recorded_batches(const ExpertStatistics& statistics, size_t layer_index,
                                                   int64_t count, bool later) {
  const int64_t iterations = static_cast<int64_t>(statistics.counts.size());
  count = std::min(count, iterations);
  std::vector<std::vector<int64_t>> batches;
  for (int64_t i = 0; i < count; ++i)
    batches.push_back(statistics.counts[(2 * i + (later ? 1 : 0)) * iterations / (2 * count)][layer_index]);
  return batches;
}

std::vector<std::vector<int64_t>> drawn_batches(const std::vector<double>& mean, int64_t count,
                                                const SimulationOptions& options, std::mt19937_64& random) {
  std::vector<std::vector<int64_t>> batches;
  for (int64_t i = 0; i < count; ++i)
    batches.push_back(draw_batch(mean, options.tokens_per_rank * options.grid.ep, options.concentration, random));
  return batches;
}

}  // namespace

Workload make_workload(std::string name, const ExpertStatistics& statistics, const SimulationOptions& options) {
  Workload workload{.name = std::move(name), .layer_ids = statistics.layers, .layers = {}};
  std::mt19937_64 random(kSeed);
  const bool recorded = statistics.counts.size() > 1;
  for (size_t i = 0; i < statistics.layers.size(); ++i) {
    Workload::Layer& layer = workload.layers.emplace_back();
    layer.mean = as_loads(statistics.total(i));
    const auto batches = [&](int64_t count, bool later) {
      return recorded ? recorded_batches(statistics, i, count, later)
                      : drawn_batches(layer.mean, count, options, random);
    };
    layer.batches = batches(options.batches, false);
    layer.plan_batches = batches(options.plan_batches, true);
  }
  return workload;
}

std::vector<Workload> make_workloads(const std::string& name, const ExpertStatistics& statistics, int64_t window,
                                     const SimulationOptions& options) {
  const int64_t iterations = static_cast<int64_t>(statistics.counts.size());
  if (window == 0 || iterations < 2 * window) return {make_workload(name, statistics, options)};
  std::vector<Workload> workloads;
  for (int64_t begin = 0; begin + window <= iterations; begin += window) {
    const int64_t end = begin + 2 * window <= iterations ? begin + window : iterations;
    ExpertStatistics part = statistics;
    part.counts.assign(statistics.counts.begin() + begin, statistics.counts.begin() + end);
    part.first_iteration += begin;
    const std::string first = std::to_string(part.first_iteration);
    workloads.push_back(make_workload(name + "[" + first + "]", part, options));
  }
  return workloads;
}

ExpertStatistics drifted(ExpertStatistics statistics, double sigma) {
  std::mt19937_64 random(kSeed);
  std::normal_distribution<double> normal(0, sigma);
  for (size_t layer = 0; layer < statistics.layers.size(); ++layer) {
    for (int64_t expert = 0; expert < statistics.counters; ++expert) {
      const double factor = std::exp(normal(random));
      for (auto& iteration : statistics.counts) {
        int64_t& count = iteration[layer][expert];
        count = std::llround(static_cast<double>(count) * factor);
      }
    }
  }
  return statistics;
}

const char* policy_name(Policy policy) {
  switch (policy) {
    case Policy::kInOrder:
      return "none";
    case Policy::kGreedy:
      return "published greedy";
    case Policy::kHierarchical:
      return "published hierarchical";
    case Policy::kShoal:
      break;
  }
  return "shoal";
}

std::vector<Policy> policies(const SimulationOptions& options) {
  std::vector<Policy> list{Policy::kInOrder, Policy::kGreedy};
  if (options.groups > 0) list.push_back(Policy::kHierarchical);
  list.push_back(Policy::kShoal);
  return list;
}

std::vector<int64_t> tokens_of_ranks(Policy policy, const Placement& placement, const std::vector<int64_t>& tokens) {
  if (policy == Policy::kShoal) {
    ReplicaSplit split(placement);
    split.split(tokens);
    return {split.tokens_of_rank().begin(), split.tokens_of_rank().end()};
  }
  const std::vector<int64_t> slots = even_split(placement, tokens);
  std::vector<int64_t> ranks(placement.ep());
  for (int32_t slot = 0; slot < placement.slots(); ++slot) ranks[placement.rank_of({slot})] += slots[slot];
  return ranks;
}

PlacedWorkload place_workload(Policy policy, const Workload& workload, const SimulationOptions& options) {
  PlacedWorkload placed;
  std::vector<double> times;
  for (const Workload::Layer& layer : workload.layers)
    times.push_back(microseconds([&] { placed.placements.push_back(planned(policy, layer, options)); }));
  placed.result = judged(policy, placed.placements, workload);
  placed.result.plan_us = median(std::move(times));
  return placed;
}

SwitchResult switch_workload(Policy policy, const PlacedWorkload& from, const Workload& to,
                             const SimulationOptions& options) {
  CHECK_EQ(from.placements.size(), to.layers.size());
  SwitchResult result{.stale = judged(policy, from.placements, to)};
  std::vector<Placement>& placements = result.placed.placements;
  std::vector<double> times;
  std::vector<int64_t> received(options.grid.ep);
  for (size_t i = 0; i < to.layers.size(); ++i) {
    const Placement& old = from.placements[i];
    const Workload::Layer& layer = to.layers[i];
    times.push_back(microseconds([&] {
      placements.push_back(
          policy == Policy::kShoal
              ? replan_placement(old, {.mean = layer.mean, .batches = layer.plan_batches}, options.replan).placement
              : planned(policy, layer, options));
    }));
    for (const SlotChange& change : slot_changes(old, placements.back()))
      received[old.rank_of(change.to)] += old.rank_of(change.from) != old.rank_of(change.to);
  }
  result.copies = static_cast<double>(std::accumulate(received.begin(), received.end(), int64_t{0})) /
                  static_cast<double>(to.layers.size());
  result.most_received = *std::max_element(received.begin(), received.end());
  result.placed.result = judged(policy, placements, to);
  result.placed.result.plan_us = median(std::move(times));
  return result;
}

}  // namespace shoal
