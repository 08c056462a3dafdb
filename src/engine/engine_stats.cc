// SPDX-License-Identifier: Apache-2.0
// What the engine tells about its work: rates and expert loads.
#include "engine/engine.h"

namespace shoal {
namespace {

void add_loads(std::map<int64_t, std::vector<int64_t>>& sums, const std::map<int64_t, std::vector<int64_t>>& terms) {
  for (const auto& [layer, loads] : terms) {
    std::vector<int64_t>& sum = sums[layer];
    sum.resize(std::max(sum.size(), loads.size()));
    for (size_t i = 0; i < loads.size(); ++i) sum[i] += loads[i];
  }
}

// Of the experts in `slots`, as far as any token asked for them.
int64_t load_of(const std::vector<int32_t>& slots, const std::vector<int64_t>& by_expert) {
  int64_t sum = 0;
  for (const int32_t expert : slots)
    if (expert >= 0 && expert < std::ssize(by_expert)) sum += by_expert[expert];
  return sum;
}

}  // namespace

StepStats Engine::step_stats() const {
  StepStats sum;
  for (const auto& replica : replicas_) {
    const StepStats stats = replica->stats();
    sum.steps += stats.steps;
    sum.prompt_tokens += stats.prompt_tokens;
    sum.generated_tokens += stats.generated_tokens;
    sum.prompt_seconds += stats.prompt_seconds;
    sum.generation_seconds += stats.generation_seconds;
  }
  return sum;
}

// Replicas work side by side: their rates add up.
double Engine::prompt_tokens_per_second() const {
  double sum = 0;
  for (const auto& replica : replicas_) {
    const StepStats stats = replica->stats();
    if (stats.prompt_seconds > 0) sum += static_cast<double>(stats.prompt_tokens) / stats.prompt_seconds;
  }
  return sum;
}

double Engine::generated_tokens_per_second() const {
  double sum = 0;
  for (const auto& replica : replicas_) {
    const StepStats stats = replica->stats();
    if (stats.generation_seconds > 0) sum += static_cast<double>(stats.generated_tokens) / stats.generation_seconds;
  }
  return sum;
}

ExpertLoads Engine::expert_loads() {
  std::vector<std::map<int64_t, std::vector<int64_t>>> of_rank(mesh().world_size());
  world_->on_all([&](RankState& state) { of_rank[state.rank] = state.model->expert_loads(); });
  ExpertLoads result;
  for (const auto& loads : of_rank) add_loads(result.by_expert, loads);
  for (int rank = 0; rank < mesh().replica_size(); ++rank) {  // the first replica tells who holds what
    const Coordinates at = mesh().at(rank);
    if (at.moe_tp != 0) continue;
    for (const auto& [layer, slots] : info_.plans[rank].experts) {
      std::vector<int64_t>& by_rank = result.by_ep_rank[layer];
      by_rank.resize(mesh().sizes().moe_expert);
      by_rank[at.moe_ep] += load_of(slots, result.by_expert[layer]);
    }
  }
  return result;
}

}  // namespace shoal
