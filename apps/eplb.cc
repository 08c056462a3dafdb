// SPDX-License-Identifier: Apache-2.0
// shoal eplb: offline tools for the placement of experts. Each works on statistics files alone: no model is read, nothing runs.
#include "apps/eplb.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "base/error.h"

namespace shoal {
namespace {

class Eplb : public Command {
 public:
  Eplb() {
    parts_.push_back(eplb_report_command());
    parts_.push_back(eplb_send_ranks_command());
    parts_.push_back(eplb_generate_command());
    parts_.push_back(eplb_simulate_command());
  }
  const char* name() const override { return "eplb"; }
  const char* summary() const override { return "Report, plan and simulate the placement of experts, from statistics"; }
  bool takes_engine_options() const override { return false; }

  void declare(CLI::App& app) override {
    app.require_subcommand(0, 1);  // that there is one, run() says better
    for (const auto& part : parts_) {
      CLI::App* sub = app.add_subcommand(part->name(), part->summary());
      part->declare(*sub);
      subs_.push_back(sub);
    }
  }

  int run(const EngineConfig& config) override {
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (subs_[i]->parsed()) return parts_[i]->run(config);
    }
    std::string names;
    for (const auto& part : parts_) names += (names.empty() ? "" : ", ") + std::string(part->name());
    throw Error(ErrorKind::kInvalid, fmt::format("eplb is one of {}, each with --help", names));
  }

 private:
  std::vector<std::unique_ptr<Command>> parts_;
  std::vector<CLI::App*> subs_;
};

}  // namespace

std::unique_ptr<Command> eplb_command() { return std::make_unique<Eplb>(); }

void StatisticsFlags::declare(CLI::App& app) {
  app.add_option("--expert_statistic_path", path, "directory of statistics: meta_info.json, rank*.safetensors")
      ->required();
  app.add_option("--iter_start", range.start, "first iteration; default: the first recorded");
  app.add_option("--iter_stop", range.stop, "iteration to stop before; default: after the last recorded");
  app.add_option("--ep_size", ep_size, "expert-parallel ranks; default: as many as there are rank files");
}

int64_t StatisticsFlags::ranks(const ExpertStatistics& statistics, std::optional<int64_t> otherwise) const {
  const std::optional<int64_t> given = ep_size ? ep_size : otherwise;
  if (given && (*given < 1 || *given > statistics.counters)) {
    throw Error(ErrorKind::kInvalid, fmt::format("ep_size is {}, must be from 1 to the {} experts of {}", *given,
                                                 statistics.counters, path));
  }
  if (given) return *given;
  if (statistics.rank_files > 1) return statistics.rank_files;
  throw Error(ErrorKind::kInvalid,
              fmt::format("{} holds the file of one rank, which does not say how many ranks share the experts; give "
                          "--ep_size",
                          path));
}

Projection::Projection(LoadBalancerConfig config, const StatisticsMeta& meta, std::vector<int64_t> layers, int64_t ep)
    : config_(std::move(config)),
      shape_{.experts = meta.num_experts, .ep = ep, .layers = std::move(layers), .model_layers = 0} {
  // Statistics of some layers may be looked at with a file for all.
  std::erase_if(config_.initial_global_assignments, [&](const auto& entry) {
    return !std::binary_search(shape_.layers.begin(), shape_.layers.end(), entry.first);
  });
  Problems problems;
  std::vector<std::string> notices;  // none: other layers are left out above
  problems.append(load_balancer_problems(config_, shape_, notices));
  problems.throw_if_any("the placement does not fit the statistics");
}

void need_expert_counts(const ExpertStatistics& statistics, const std::string& path) {
  if (statistics.counters == statistics.meta.num_experts) return;
  throw Error(ErrorKind::kInvalid, fmt::format("{} counts {} slots, not {} experts; record without a load balancer",
                                               path, statistics.counters, statistics.meta.num_experts));
}

std::vector<double> as_loads(const std::vector<int64_t>& counts) { return {counts.begin(), counts.end()}; }

std::vector<double> even_slot_loads(const Placement& placement, const std::vector<int64_t>& tokens_of_expert) {
  std::vector<double> loads(placement.slots());
  for (int32_t slot = 0; slot < placement.slots(); ++slot) {
    const ExpertId expert = placement.expert({slot});
    if (expert == kNoExpert) continue;
    loads[slot] =
        static_cast<double>(tokens_of_expert[expert.value]) / static_cast<double>(placement.slots_of(expert).size());
  }
  return loads;
}

LoadSpread spread_of(const std::vector<double>& loads) {
  const double count = static_cast<double>(loads.size());
  LoadSpread spread{.mean = std::accumulate(loads.begin(), loads.end(), 0.0) / count};
  double squares = 0;
  for (const double load : loads) squares += (load - spread.mean) * (load - spread.mean);
  if (count > 1) spread.deviation = std::sqrt(squares / (count - 1));
  if (spread.mean > 0) spread.imbalance = *std::max_element(loads.begin(), loads.end()) / spread.mean - 1;
  return spread;
}

CLI::Validator finite_range(double least, double most) {
  const auto check = [least, most](const std::string& text) {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= least && value <= most) return std::string();
    return fmt::format("{} must be a number from {} to {}", text, least, most);
  };
  return CLI::Validator(check, fmt::format("FLOAT in [{} - {}]", least, most));
}

void write_text_file(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".writing";
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  if (!out) throw Error(ErrorKind::kInvalid, fmt::format("{} cannot be written; give a place that can", path));
  out << text;
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(temporary, path, error);
  if (out && !error) return;
  std::error_code ignored;
  std::filesystem::remove(temporary, ignored);
  throw Error(ErrorKind::kInvalid, fmt::format("{} cannot be written; is it a directory, or the disk full?", path));
}

}  // namespace shoal
