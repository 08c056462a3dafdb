// SPDX-License-Identifier: Apache-2.0
// shoal eplb report: how evenly the recorded loads fall on ranks, or on experts, as TensorRT-LLM's report_load_statistics prints it; with
// --cooccurrence, how often experts that a token picks together share a rank. shoal eplb report_send_ranks_per_token: to how many ranks a
// token goes. Every figure is taken for each iteration, then averaged over iterations; the last row averages the layers.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/eplb.h"
#include "base/error.h"
#include "parallel/cuts.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

// A table with a label and some figures a row; the last row is the average of the others.
class Table {
 public:
  Table(std::string title, std::vector<std::string> columns) : title_(std::move(title)), columns_(std::move(columns)) {}

  void add(int64_t layer, std::vector<double> figures) { rows_.emplace_back(layer, std::move(figures)); }

  void print(bool json, Json more) const {
    if (json) {
      more["layers"] = Json::array();
      for (const auto& [layer, figures] : rows_) {
        Json row = {{"layer", layer}};
        row.update(figures_json(figures));
        more["layers"].push_back(std::move(row));
      }
      more["average"] = figures_json(average());
      fmt::print("{}\n", more.dump());
      return;
    }
    fmt::print("{}:\n{:<8}", title_, "");
    for (const std::string& column : columns_) fmt::print("  {:>18}", column);
    fmt::print("\n");
    for (const auto& [layer, figures] : rows_) print_row(std::to_string(layer), figures);
    print_row("average", average());
  }

 private:
  std::vector<double> average() const {
    std::vector<double> sum(columns_.size());
    for (const auto& [layer, figures] : rows_) {
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += figures[i] / static_cast<double>(rows_.size());
    }
    return sum;
  }
  static void print_row(const std::string& label, const std::vector<double>& figures) {
    fmt::print("{:<8}", label);
    for (const double figure : figures) fmt::print("  {:>18.6f}", figure);
    fmt::print("\n");
  }
  Json figures_json(const std::vector<double>& figures) const {
    Json json = Json::object();
    for (size_t i = 0; i < columns_.size(); ++i) {
      std::string key = columns_[i];
      std::replace(key.begin(), key.end(), '-', '_');
      json[key] = figures[i];
    }
    return json;
  }

  std::string title_;
  std::vector<std::string> columns_;
  std::vector<std::pair<int64_t, std::vector<double>>> rows_;
};

// The experts' homes of a report: a file's placement, or each rank its share in order.
class Homes {
 public:
  void declare(CLI::App& app) {
    statistics.declare(app);
    app.add_option("--projection_eplb_config_path", file_, "moe_load_balancer.yaml: report as if it had been in use");
  }

  // Without ranks where only experts are looked at.
  void read(const StatisticsMeta& meta, const std::vector<int64_t>& layers,
            const std::function<int64_t(std::optional<int64_t>)>& ranks) {
    if (file_.empty()) {
      ep = ranks({});
      return;
    }
    LoadBalancerConfig config = read_load_balancer(file_);
    ep = ranks(config.ep_size);
    projection.emplace(std::move(config), meta, layers, ep);
  }
  bool given() const { return !file_.empty(); }
  Placement placement(int64_t layer, int64_t experts) const {
    return projection ? projection->placement(layer) : Placement::contiguous(experts, ep);
  }

  StatisticsFlags statistics;
  int64_t ep = 1;
  std::optional<Projection> projection;

 private:
  std::string file_;
};

class Report : public Command {
 public:
  const char* name() const override { return "report"; }
  const char* summary() const override { return "Show how evenly recorded loads fall on ranks or experts"; }

  void declare(CLI::App& app) override {
    homes_.declare(app);
    app.add_flag("--per_expert", per_expert_, "spread over experts (slots, with a projection) instead of ranks");
    app.add_flag("--cooccurrence", cooccurrence_, "how often experts picked together share a rank");
    app.add_flag("--json", json_, "one object: ep_size, layers, average");
  }

  int run(const EngineConfig&) override {
    const ExpertStatistics statistics = homes_.statistics.read();
    const bool by_expert = per_expert_ && !homes_.given() && !cooccurrence_;
    homes_.read(statistics.meta, statistics.layers, [&](std::optional<int64_t> from_file) {
      return by_expert ? 1 : homes_.statistics.ranks(statistics, from_file);
    });
    if (homes_.given() || cooccurrence_) need_expert_counts(statistics, homes_.statistics.path);
    if (cooccurrence_) {
      report_pairs(statistics);
    } else {
      report_loads(statistics);
    }
    return 0;
  }

 private:
  void report_loads(const ExpertStatistics& statistics) const {
    Table table("Load statistics", {"mean", "std", "imbalance-ratio"});
    for (size_t i = 0; i < statistics.layers.size(); ++i) {
      std::vector<double> figures(3);
      const double iterations = static_cast<double>(statistics.counts.size());
      for (const auto& iteration : statistics.counts) {
        const LoadSpread spread = spread_of(loads(statistics.layers[i], iteration[i]));
        figures[0] += spread.mean / iterations;
        figures[1] += spread.deviation / iterations;
        figures[2] += spread.imbalance / iterations;
      }
      table.add(statistics.layers[i], std::move(figures));
    }
    table.print(json_, {{"ep_size", homes_.ep}});
  }

  // Of each rank, or of each slot or counter.
  std::vector<double> loads(int64_t layer, const std::vector<int64_t>& counts) const {
    const std::vector<double> slots =
        homes_.projection ? even_slot_loads(homes_.projection->placement(layer), counts) : as_loads(counts);
    if (per_expert_) return slots;
    std::vector<double> ranks(homes_.ep);
    for (int64_t rank = 0; rank < homes_.ep; ++rank) {
      const Range own = front_loaded_part(static_cast<int64_t>(slots.size()), rank, homes_.ep);
      for (int64_t slot = own.begin; slot < own.end; ++slot) ranks[rank] += slots[slot];
    }
    return ranks;
  }

  void report_pairs(const ExpertStatistics& statistics) const {
    const Cooccurrence pairs = read_cooccurrence(homes_.statistics.path, homes_.statistics.range);
    Table table("Co-occurrence statistics", {"within-rank-cnt", "between-rank-cnt", "total-cnt", "within-rank-ratio"});
    for (const auto& [layer, counts] : pairs) {
      const Placement placement = homes_.placement(layer, statistics.meta.num_experts);
      double total = 0;
      double within = 0;
      for (int32_t a = 0; a < placement.experts(); ++a) {
        for (int32_t b = a + 1; b < placement.experts(); ++b) {
          const double count = static_cast<double>(counts[a * placement.experts() + b]);
          total += count;
          within += count * together({a}, {b}, placement);
        }
      }
      table.add(layer, {within, total - within, total, total > 0 ? within / total : 0});
    }
    table.print(json_, {{"ep_size", homes_.ep}});
  }

  // The part of all choices of a copy of each that puts both on one rank.
  static double together(ExpertId a, ExpertId b, const Placement& placement) {
    double same = 0;
    for (const SlotId of_a : placement.slots_of(a)) {
      for (const SlotId of_b : placement.slots_of(b)) same += placement.rank_of(of_a) == placement.rank_of(of_b);
    }
    return same / static_cast<double>(placement.slots_of(a).size() * placement.slots_of(b).size());
  }

  Homes homes_;
  bool per_expert_ = false;
  bool cooccurrence_ = false;
  bool json_ = false;
};

class SendRanks : public Command {
 public:
  const char* name() const override { return "report_send_ranks_per_token"; }
  const char* summary() const override { return "Show to how many ranks a token is sent"; }

  void declare(CLI::App& app) override {
    homes_.declare(app);
    app.add_flag("--json", json_, "one object: ep_size, layers, average");
  }

  int run(const EngineConfig&) override {
    const ExpertStatistics statistics = homes_.statistics.read();
    homes_.read(statistics.meta, statistics.layers,
                [&](std::optional<int64_t> from_file) { return homes_.statistics.ranks(statistics, from_file); });
    std::map<int64_t, Sum> sums;
    std::map<int64_t, Placement> placements;
    visit_token_selections(homes_.statistics.path, homes_.statistics.range, [&](const TokenSelections& selections) {
      const auto at =
          placements.try_emplace(selections.layer, homes_.placement(selections.layer, statistics.meta.num_experts));
      count(selections, at.first->second, sums[selections.layer]);
    });
    Table table("Ranks that a token is sent to", {"num-send-ranks-per-token"});
    for (const auto& [layer, sum] : sums)
      table.add(layer, {sum.tokens > 0 ? static_cast<double>(sum.ranks) / static_cast<double>(sum.tokens) : 0});
    table.print(json_, {{"ep_size", homes_.ep}});
    return 0;
  }

 private:
  struct Sum {
    int64_t tokens = 0;
    int64_t ranks = 0;
  };

  // An expert's copies take turns, token by token. Padded tokens are left out.
  static void count(const TokenSelections& selections, const Placement& placement, Sum& sum) {
    const int64_t tokens = static_cast<int64_t>(selections.experts.size()) / selections.top_k;
    for (int64_t token = 0; token < tokens; ++token) {
      std::set<int64_t> ranks;
      for (const int64_t expert : selections.experts.subspan(token * selections.top_k, selections.top_k)) {
        if (expert < 0) continue;
        const std::vector<SlotId>& slots = placement.slots_of({static_cast<int32_t>(expert)});
        ranks.insert(placement.rank_of(slots[token % static_cast<int64_t>(slots.size())]));
      }
      sum.tokens += ranks.empty() ? 0 : 1;
      sum.ranks += static_cast<int64_t>(ranks.size());
    }
  }

  Homes homes_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> eplb_report_command() { return std::make_unique<Report>(); }
std::unique_ptr<Command> eplb_send_ranks_command() { return std::make_unique<SendRanks>(); }

}  // namespace shoal
