// SPDX-License-Identifier: Apache-2.0
// shoal explain: who would hold and say what, from config.json alone. Bytes of a step are for max_num_tokens tokens, of the cache for
// kv_cache_config.max_tokens, else for one sequence of full length.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/command.h"
#include "apps/report.h"
#include "base/error.h"
#include "engine/kv_budget.h"
#include "engine/model_setup.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

struct Step {
  int64_t tokens = 0;   // rows of an attention-DP group
  int64_t context = 0;  // positions of the longest sequence
  KvSizes cache;
};

Step step_of(const ModelSetup& setup, const std::vector<RankPlan>& plans) {
  const EngineConfig& config = setup.config;
  const int64_t context = config.max_seq_len.value_or(setup.spec.max_positions);
  const KvBudgetInput input{.plans = plans,
                            .config = config,
                            .pools = kv_pools(setup.spec),
                            .max_seq_len = context,
                            .available_bytes = 0,
                            .memory_limit = {}};
  return {.tokens = config.max_num_tokens,
          .context = context,
          .cache = kv_sizes_for(input, config.kv_cache.max_tokens.value_or(context))};
}

int64_t kv_bytes(const ModelSetup& setup, const Step& step, const RankPlan& plan) {
  return plan.kv_bytes(step.cache.pages, setup.config.kv_cache.tokens_per_block);
}

Json rank_json(const ModelSetup& setup, const Step& step, int rank, const RankPlan& plan) {
  const Coordinates at = setup.mesh.at(rank);
  Json experts = Json::object();
  for (const auto& [layer, slots] : plan.experts) experts[std::to_string(layer)] = slots;
  return {{"rank", rank},
          {"dp", at.dp},
          {"pp", at.pp},
          {"cp", at.cp},
          {"tp", at.tp},
          {"attn_dp", at.attn_dp},
          {"moe_tp", at.moe_tp},
          {"moe_ep", at.moe_ep},
          {"layers", {plan.layers.begin, plan.layers.end - 1}},
          {"heads", plan.heads},
          {"kv_heads", plan.kv_heads},
          {"experts", std::move(experts)},
          {"weight_bytes", plan.weight_bytes},
          {"kv_bytes_per_token", plan.kv_bytes_per_token},
          {"kv_bytes", kv_bytes(setup, step, plan)},
          {"activation_bytes", plan.activation_bytes},
          {"comm_bytes", plan.comm_bytes}};
}

void print_table_row(const ModelSetup& setup, const Step& step, int rank, const RankPlan& plan) {
  const Coordinates at = setup.mesh.at(rank);
  const auto bytes = [](int64_t value) { return format_bytes(static_cast<double>(value)); };
  const std::string experts = plan.experts.empty() ? "" : ranges_text(plan.experts.begin()->second);
  fmt::print(
      "{:>4} {:>3} {:>3} {:>3} {:>4} {:>4} {:>6} {:>6} {:>8} {:>5} {:>3} {:>10} {:>10} {:>10} {:>10} {:>10}  {}\n",
      rank, at.dp, at.pp, at.cp, at.tp, at.attn_dp, at.moe_tp, at.moe_ep,
      fmt::format("{}-{}", plan.layers.begin, plan.layers.end - 1), plan.heads, plan.kv_heads, bytes(plan.weight_bytes),
      bytes(kv_bytes(setup, step, plan)), bytes(plan.kv_bytes_per_token), bytes(plan.activation_bytes),
      bytes(plan.comm_bytes), experts);
}

// Collectives of the rank with the most of them; the others of a stage have the same.
void print_collectives(const Step& step, const std::vector<RankPlan>& plans) {
  const auto busiest = std::max_element(
      plans.begin(), plans.end(), [&](const RankPlan& a, const RankPlan& b) { return a.comm_bytes < b.comm_bytes; });
  if (busiest->collectives.empty()) return;
  fmt::print("\ncollectives of a step on rank {}, bytes it sends for {} tokens:\n", busiest - plans.begin(),
             step.tokens);
  for (const RankPlan::Collective& collective : busiest->collectives) {
    fmt::print("  {:>5} x {:<20} over {:<10} {:>10}\n", collective.per_step, collective.operation, collective.group,
               format_bytes(collective.bytes_per_token * static_cast<double>(step.tokens)));
  }
}

void print_table(const ModelSetup& setup, const std::vector<RankPlan>& plans) {
  const Step step = step_of(setup, plans);
  for (const std::string& notice : setup.notices) std::fprintf(stderr, "notice: %s\n", notice.c_str());
  fmt::print("{}: {}\n{}; {}\n", setup.model_dir.string(), model_text(setup.spec),
             grid_text(setup.mesh, setup.spec.has_moe()), types_text(setup.options.compute, setup.options.cache));
  fmt::print("KV cache of {} tokens; a step of {} tokens over {} positions\n\n", step.cache.tokens, step.tokens,
             step.context);
  fmt::print(
      "{:>4} {:>3} {:>3} {:>3} {:>4} {:>4} {:>6} {:>6} {:>8} {:>5} {:>3} {:>10} {:>10} {:>10} {:>10} {:>10}  {}\n",
      "rank", "dp", "pp", "cp", "tp", "adp", "moe_tp", "moe_ep", "layers", "heads", "kv", "weights", "KV cache",
      "KV/token", "activation", "messages", "experts of each MoE layer");
  for (size_t rank = 0; rank < plans.size(); ++rank) print_table_row(setup, step, static_cast<int>(rank), plans[rank]);
  int64_t weights = 0;
  for (const RankPlan& plan : plans) weights += plan.weight_bytes;
  fmt::print("\nweights of all ranks: {}\n", format_bytes(static_cast<double>(weights)));
  print_collectives(step, plans);
}

class Explain : public Command {
 public:
  const char* name() const override { return "explain"; }
  const char* summary() const override { return "Show what each rank would hold and send, without loading weights"; }

  void declare(CLI::App& app) override {
    app.add_option("MODEL", model_, "model directory; config.json is enough")->required();
    app.add_flag("--json", json_, "one object: world_size, ranks");
  }

  int run(const EngineConfig& config) override {
    const ModelSetup setup = set_up_model(model_, config, SetupFor::kExplaining);
    const std::vector<RankPlan> plans = plan_ranks(setup, threads_per_rank(setup.config, read_machine()));
    if (!json_) {
      print_table(setup, plans);
      return 0;
    }
    const Step step = step_of(setup, plans);
    Json object = {{"world_size", setup.mesh.world_size()}, {"ranks", Json::array()}};
    for (size_t rank = 0; rank < plans.size(); ++rank)
      object["ranks"].push_back(rank_json(setup, step, static_cast<int>(rank), plans[rank]));
    fmt::print("{}\n", object.dump());
    return 0;
  }

 private:
  std::string model_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> explain_command() { return std::make_unique<Explain>(); }

}  // namespace shoal
