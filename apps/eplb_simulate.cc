// SPDX-License-Identifier: Apache-2.0
// shoal eplb simulate: recorded workloads, one after the other, under no balancing, the published greedy and this engine's own policies.
#include <fmt/format.h>

#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>

#include "apps/eplb.h"
#include "apps/eplb_picture.h"
#include "apps/eplb_simulation.h"
#include "base/error.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

class Simulate : public Command {
 public:
  const char* name() const override { return "simulate"; }
  const char* summary() const override { return "Compare placements of experts on recorded workloads"; }

  void declare(CLI::App& app) override {
    app.add_option("--expert_statistic_path", paths_, "directory of statistics; again for each workload that follows")
        ->required();
    app.add_option("--iter_start", range_.start, "first iteration; default: the first recorded");
    app.add_option("--iter_stop", range_.stop, "iteration to stop before; default: after the last recorded");
    app.add_option("--ep_size", options_.grid.ep, "expert-parallel ranks")
        ->required()
        ->check(CLI::Range(0, kMostSlots));
    app.add_option("--num_slots", slots_, "slots of all ranks together; default: the fewest that hold every expert")
        ->check(CLI::Range(1, kMostSlots));
    app.add_option("--nodes", options_.grid.nodes, "hosts that the ranks are on")->check(CLI::Range(1, kMostSlots));
    app.add_option("--groups", options_.groups, "groups of experts, to show the published hierarchical policy too")
        ->check(CLI::Range(0, kMostSlots));
    app.add_option("--batches", options_.batches, "batches that each layer is judged by")->check(CLI::Range(1, 100000));
    app.add_option("--plan_batches", options_.plan_batches, "other batches that this engine's planners are shown")
        ->check(CLI::Range(0, 1000));
    app.add_option("--batch_tokens", options_.tokens_per_rank,
                   "routed copies a rank in drawn batches, where one iteration is recorded")
        ->check(CLI::Range(1, 1 << 24));
    app.add_option("--concentration", options_.concentration, "of drawn batches: the larger, the nearer to the mean")
        ->check(finite_range(1e-3, 1e15));
    app.add_option("--target", options_.replan.target, "imbalance that re-planning aims at")
        ->check(finite_range(0, 10));
    app.add_option("--max_copies", options_.replan.max_copies, "most copies of experts moved in a layer at a switch")
        ->check(CLI::Range(0, kMostSlots));
    app.add_option("--price", options_.replan.price_per_copy, "imbalance that a copy must gain to be moved")
        ->check(finite_range(0, 1e6));
    app.add_option("--expert_mb", expert_mb_, "megabytes of one expert, for the cost of moves")
        ->check(finite_range(1e-6, 1e6));
    app.add_option("--link_gb_s", link_gb_s_, "gigabytes a second into a rank, for the cost of moves")
        ->check(finite_range(1e-6, 1e6));
    app.add_option("--window", window_, "iterations that make a workload of their own; default: all of a directory")
        ->check(CLI::Range(0, 1 << 30));
    app.add_option("--drift", drift_, "after each directory comes the same with loads changed at random, such as 0.1")
        ->check(finite_range(0, 5));
    app.add_flag("--pairs", pairs_, "switch from each workload to each other one, not only to the next");
    app.add_option("--svg", svg_, "file for a picture of rank loads by layer under each policy");
    app.add_flag("--json", json_, "one object: workloads, switches");
  }

  int run(const EngineConfig&) override {
    const std::vector<Workload> workloads = read_workloads();
    Json workload_rows = Json::array();
    Json switch_rows = Json::array();
    for (const Policy policy : policies(options_)) {
      std::vector<PlacedWorkload> placed;
      for (const Workload& workload : workloads) {
        placed.push_back(place_workload(policy, workload, options_));
        workload_rows.push_back(workload_row(policy, workload, placed.back().result));
      }
      if (!svg_.empty()) panels_.push_back(panel(policy, workloads.front(), placed.front()));
      for (const auto& [from, to] : switches(workloads.size())) {
        SwitchResult result = switch_workload(policy, placed[from], workloads[to], options_);
        switch_rows.push_back(switch_row(policy, workloads[from].name, workloads[to].name, result));
        // A sequence goes on with what it has come to.
        if (!pairs_) placed[to] = std::move(result.placed);
      }
    }
    if (!svg_.empty()) write_picture(workloads.front());
    if (json_) {
      fmt::print("{}\n", Json{{"ep_size", options_.grid.ep},
                              {"num_slots", options_.grid.slots},
                              {"workloads", workload_rows},
                              {"switches", switch_rows}}
                             .dump());
    } else {
      print_workloads(workload_rows);
      print_switches(switch_rows);
    }
    return 0;
  }

 private:
  std::vector<Workload> read_workloads() {
    std::vector<ExpertStatistics> recorded;
    for (const std::string& path : paths_) {
      recorded.push_back(read_expert_statistics(path, range_));
      need_expert_counts(recorded.back(), path);
      if (recorded.back().layers == recorded.front().layers && recorded.back().counters == recorded.front().counters)
        continue;
      throw Error(
          ErrorKind::kInvalid,
          fmt::format("{} has other layers or experts than {}; workloads must be of one model", path, paths_.front()));
    }
    const int64_t experts = recorded.front().counters;
    const int64_t ep = std::max<int64_t>(options_.grid.ep, 1);
    options_.grid.slots = slots_.value_or((experts + ep - 1) / ep * ep);
    Problems problems;
    problems.append(slot_grid_problems(experts, options_.grid));
    problems.throw_if_any("nothing can be simulated");
    std::vector<Workload> workloads;
    for (size_t i = 0; i < paths_.size(); ++i) {
      const std::filesystem::path path = std::filesystem::path(paths_[i]).lexically_normal();
      const std::string name = path.has_filename() ? path.filename() : path.parent_path().filename();
      std::vector<Workload> parts = make_workloads(name, recorded[i], window_, options_);
      std::move(parts.begin(), parts.end(), std::back_inserter(workloads));
      if (drift_ > 0)
        workloads.push_back(make_workload(name + " drifted", drifted(std::move(recorded[i]), drift_), options_));
    }
    return workloads;
  }

  // From which workload to which.
  std::vector<std::pair<size_t, size_t>> switches(size_t workloads) const {
    std::vector<std::pair<size_t, size_t>> list;
    for (size_t from = 0; from < workloads; ++from) {
      for (size_t to = 0; to < workloads; ++to) {
        if (pairs_ ? from != to : from + 1 == to) list.emplace_back(from, to);
      }
    }
    return list;
  }

  static Json workload_row(Policy policy, const Workload& workload, const PolicyResult& result) {
    return {{"workload", workload.name},
            {"policy", policy_name(policy)},
            {"mean_imbalance", result.mean_imbalance},
            {"worst_layer_imbalance", result.worst_imbalance},
            {"batch_imbalance", result.batch_imbalance},
            {"plan_us_per_layer", result.plan_us}};
  }

  Json switch_row(Policy policy, const std::string& from, const std::string& to, const SwitchResult& result) const {
    Json row = {{"from", from},
                {"to", to},
                {"policy", policy_name(policy)},
                {"stale_mean_imbalance", result.stale.mean_imbalance},
                {"stale_batch_imbalance", result.stale.batch_imbalance},
                {"copies_per_layer", result.copies},
                {"mean_imbalance", result.placed.result.mean_imbalance},
                {"batch_imbalance", result.placed.result.batch_imbalance},
                {"replan_us_per_layer", result.placed.result.plan_us},
                {"most_copies_into_a_rank", result.most_received}};
    if (expert_mb_) {
      const double megabytes = static_cast<double>(result.most_received) * *expert_mb_;
      row["most_mb_into_a_rank"] = megabytes;
      row["move_ms"] = megabytes / link_gb_s_;  // MB / (GB/s) = ms
    }
    return row;
  }

  void print_workloads(const Json& rows) const {
    fmt::print("{} ranks of {} slots; imbalance: heaviest rank / mean - 1, average of the layers\n\n", options_.grid.ep,
               options_.grid.slots / options_.grid.ep);
    fmt::print("{:<24} {:<24} {:>10} {:>12} {:>10} {:>13}\n", "workload", "policy", "mean load", "worst layer",
               "batches", "us to plan");
    for (const Json& row : rows) {
      fmt::print("{:<24} {:<24} {:>10.4f} {:>12.4f} {:>10.4f} {:>13.0f}\n", row["workload"].get<std::string>(),
                 row["policy"].get<std::string>(), row["mean_imbalance"].get<double>(),
                 row["worst_layer_imbalance"].get<double>(), row["batch_imbalance"].get<double>(),
                 row["plan_us_per_layer"].get<double>());
    }
  }

  void print_switches(const Json& rows) const {
    if (rows.empty()) return;
    fmt::print("\n{:<48} {:<24} {:>22} {:>8} {:>22} {:>13}{}\n", "switch", "policy", "before: mean, batches", "copies",
               "after: mean, batches", "us to plan", expert_mb_ ? "  ms to move" : "");
    for (const Json& row : rows) {
      fmt::print("{:<48} {:<24} {:>11.4f} {:>10.4f} {:>8.1f} {:>11.4f} {:>10.4f} {:>13.0f}",
                 row["from"].get<std::string>() + " -> " + row["to"].get<std::string>(),
                 row["policy"].get<std::string>(), row["stale_mean_imbalance"].get<double>(),
                 row["stale_batch_imbalance"].get<double>(), row["copies_per_layer"].get<double>(),
                 row["mean_imbalance"].get<double>(), row["batch_imbalance"].get<double>(),
                 row["replan_us_per_layer"].get<double>());
      if (expert_mb_) fmt::print("  {:>10.1f}", row["move_ms"].get<double>());
      fmt::print("\n");
    }
  }

  // Of each layer's first batch.
  LoadPanel panel(Policy policy, const Workload& workload, const PlacedWorkload& placed) const {
    LoadPanel panel{.title = policy_name(policy), .load_over_mean = {}};
    for (size_t i = 0; i < workload.layers.size(); ++i) {
      std::vector<double> loads =
          as_loads(tokens_of_ranks(policy, placed.placements[i], workload.layers[i].batches[0]));
      const double mean = spread_of(loads).mean;
      for (double& load : loads) load = mean > 0 ? load / mean : 1;
      panel.load_over_mean.push_back(std::move(loads));
    }
    return panel;
  }

  void write_picture(const Workload& workload) const {
    const std::string title = fmt::format("{}: one batch on {} ranks of {} slots, a row for each layer", workload.name,
                                          options_.grid.ep, options_.grid.slots / options_.grid.ep);
    write_text_file(svg_, load_picture(title, workload.layer_ids, panels_));
  }

  std::vector<std::string> paths_;
  IterationRange range_;
  std::optional<int64_t> slots_;
  std::optional<double> expert_mb_;
  double link_gb_s_ = 50;
  int64_t window_ = 0;
  double drift_ = 0;
  bool pairs_ = false;
  std::string svg_;
  bool json_ = false;
  SimulationOptions options_;
  std::vector<LoadPanel> panels_;
};

}  // namespace

std::unique_ptr<Command> eplb_simulate_command() { return std::make_unique<Simulate>(); }

}  // namespace shoal
