// SPDX-License-Identifier: Apache-2.0
// What the commands under `shoal eplb` share: the flags that name statistics, and the experts' loads by rank.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/command.h"
#include "engine/expert_statistics.h"
#include "engine/load_balancer_config.h"
#include "parallel/placement.h"

namespace shoal {

constexpr int kMostSlots = 1 << 20;  // that a flag may ask for

std::unique_ptr<Command> eplb_report_command();
std::unique_ptr<Command> eplb_send_ranks_command();
std::unique_ptr<Command> eplb_generate_command();
std::unique_ptr<Command> eplb_simulate_command();

// --expert_statistic_path, --iter_start, --iter_stop, --ep_size.
struct StatisticsFlags {
  std::string path;
  IterationRange range;
  std::optional<int64_t> ep_size;

  void declare(CLI::App& app);
  ExpertStatistics read() const { return read_expert_statistics(path, range); }
  // --ep_size, else `otherwise`, else the number of rank files; Error where that is one.
  int64_t ranks(const ExpertStatistics& statistics, std::optional<int64_t> otherwise = {}) const;
};

// Placements of a file's layers for these statistics. Error with everything that does not fit.
class Projection {
 public:
  Projection(LoadBalancerConfig config, const StatisticsMeta& meta, std::vector<int64_t> layers, int64_t ep);
  Placement placement(int64_t layer) const { return initial_placement(config_, layer, shape_); }

 private:
  LoadBalancerConfig config_;
  MoeShape shape_;
};

// Error where statistics count slots, which cannot be told apart by expert.
void need_expert_counts(const ExpertStatistics& statistics, const std::string& path);

std::vector<double> as_loads(const std::vector<int64_t>& counts);
// Each slot's part of its expert's tokens, copies sharing evenly.
std::vector<double> even_slot_loads(const Placement& placement, const std::vector<int64_t>& tokens_of_expert);

// Mean, sample standard deviation and max / mean - 1 of some loads.
struct LoadSpread {
  double mean = 0;
  double deviation = 0;
  double imbalance = 0;
};
LoadSpread spread_of(const std::vector<double>& loads);

// A check of an option: a number from `least` to `most`, and not NaN, which CLI::Range lets through.
CLI::Validator finite_range(double least, double most);

// Written beside the file, then named. Error if the place cannot be written.
void write_text_file(const std::string& path, const std::string& text);

}  // namespace shoal
