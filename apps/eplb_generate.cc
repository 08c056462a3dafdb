// SPDX-License-Identifier: Apache-2.0
// shoal eplb generate: moe_load_balancer.yaml for recorded loads.
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "apps/eplb.h"
#include "base/error.h"
#include "parallel/balance.h"
#include "parallel/greedy_balance.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostBatches = 16;  // iterations that a plan is judged by

class EplbGenerate : public Command {
 public:
  const char* name() const override { return "generate"; }
  const char* summary() const override { return "Plan which slot holds which expert and write moe_load_balancer.yaml"; }

  void declare(CLI::App& app) override {
    statistics_.declare(app);
    app.add_option("--output_path", output_, "file to write, such as moe_load_balancer.yaml")->required();
    app.add_option("--num_slots", slots_, "slots of all ranks together; default: the fewest that hold every expert")
        ->check(CLI::Range(1, kMostSlots));
    app.add_option("--layer_updates_per_iter", updates_, "layers placed anew in a step; 0 keeps this placement")
        ->check(CLI::Range(0, 1 << 20));
    app.add_option("--nodes", nodes_, "hosts that the ranks are on: copies are laid where tokens come from")
        ->check(CLI::Range(1, kMostSlots));
    CLI::Option* cooccurrence =
        app.add_flag("--cooccurrence", cooccurrence_, "keep experts that tokens pick together on one rank");
    app.add_option("--alpha", alpha_, "with --cooccurrence: part of a rank that is filled so")
        ->needs(cooccurrence)
        ->check(finite_range(0, 1));
    app.add_flag("--json", json_, "one object: file, ep_size, num_slots, layers with their imbalance");
  }

  int run(const EngineConfig&) override {
    const ExpertStatistics statistics = statistics_.read();
    need_expert_counts(statistics, statistics_.path);
    const int64_t experts = statistics.meta.num_experts;
    const int64_t ep = statistics_.ranks(statistics);
    const SlotGrid grid{.ep = ep, .slots = slots_.value_or((experts + ep - 1) / ep * ep), .nodes = nodes_};
    Problems problems;
    problems.append(slot_grid_problems(experts, grid));
    problems.throw_if_any("no placement can be made");
    const Cooccurrence pairs = cooccurrence_ ? read_cooccurrence(statistics_.path, statistics_.range) : Cooccurrence();
    LoadBalancerConfig config{.num_slots = grid.slots, .layer_updates_per_iter = updates_};
    if (cooccurrence_) config.ep_size = ep;
    Json layers = Json::array();
    for (size_t i = 0; i < statistics.layers.size(); ++i) {
      const int64_t layer = statistics.layers[i];
      const std::vector<int64_t> total = statistics.total(i);
      const Placement placement = cooccurrence_
                                      ? cooccurrence_placement(as_loads(total), pairs_of(pairs, layer), grid, alpha_)
                                      : plan_placement(loads_of(statistics, i), grid);
      std::vector<int32_t>& assigned = config.initial_global_assignments[layer];
      for (int32_t slot = 0; slot < placement.slots(); ++slot) assigned.push_back(placement.expert({slot}).value);
      layers.push_back({{"layer", layer},
                        {"imbalance_before", even_imbalance(Placement::contiguous(experts, ep), as_loads(total))},
                        {"imbalance_even", even_imbalance(placement, as_loads(total))},
                        {"imbalance_split", split_imbalance(placement, total)}});
    }
    write_text_file(output_, load_balancer_yaml(config));
    print(grid, layers);
    return 0;
  }

 private:
  static LayerLoads loads_of(const ExpertStatistics& statistics, size_t layer_index) {
    LayerLoads loads{.mean = as_loads(statistics.total(layer_index))};
    const size_t iterations = statistics.counts.size();
    if (iterations < 2) return loads;
    const size_t batches = std::min(iterations, kMostBatches);
    for (size_t i = 0; i < batches; ++i)
      loads.batches.push_back(statistics.counts[i * iterations / batches][layer_index]);
    return loads;
  }

  const std::vector<int64_t>& pairs_of(const Cooccurrence& pairs, int64_t layer) const {
    const auto found = pairs.find(layer);
    if (found != pairs.end()) return found->second;
    throw Error(ErrorKind::kInvalid, fmt::format("{} has no co-occurrences of layer {}; record them with the counts",
                                                 statistics_.path, layer));
  }

  void print(const SlotGrid& grid, const Json& layers) const {
    if (json_) {
      const Json object = {
          {"output_path", output_}, {"ep_size", grid.ep}, {"num_slots", grid.slots}, {"layers", layers}};
      fmt::print("{}\n", object.dump());
      return;
    }
    const auto mean = [&](const char* key) {
      double sum = 0;
      for (const Json& layer : layers) sum += layer[key].get<double>();
      return sum / static_cast<double>(layers.size());
    };
    fmt::print("{}: {} layers on {} ranks of {} slots\n", output_, layers.size(), grid.ep, grid.slots / grid.ep);
    fmt::print(
        "heaviest rank above the mean, average of the layers: {:.1f} % with experts in order, {:.2f} % planned "
        "with copies sharing evenly, {:.2f} % split as this engine does\n",
        100 * mean("imbalance_before"), 100 * mean("imbalance_even"), 100 * mean("imbalance_split"));
  }

  StatisticsFlags statistics_;
  std::string output_;
  std::optional<int64_t> slots_;
  int64_t updates_ = 0;
  int64_t nodes_ = 1;
  bool cooccurrence_ = false;
  double alpha_ = 0.8;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> eplb_generate_command() { return std::make_unique<EplbGenerate>(); }

}  // namespace shoal
