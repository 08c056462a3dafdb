// SPDX-License-Identifier: Apache-2.0
// What the engine tells about its work: rates and expert loads.
#include <limits>

#include "engine/engine.h"
#include "engine/expert_recording.h"

namespace shoal {
namespace {

void add_to(std::vector<int64_t>& sum, const std::vector<int64_t>& terms) {
  sum.resize(std::max(sum.size(), terms.size()));
  for (size_t i = 0; i < terms.size(); ++i) sum[i] += terms[i];
}

}  // namespace

EngineStats Engine::stats() const {
  EngineStats stats{.steps = step_stats(), .cache = cache_use(), .requests = {}, .ranks = world_->stats()};
  for (const auto& replica : replicas_) {
    const RequestCounts counts = replica->request_counts();
    stats.requests.running += counts.running;
    stats.requests.waiting += counts.waiting;
  }
  return stats;
}

std::vector<int64_t> Engine::peak_bytes() const {
  std::vector<int64_t> peaks;
  for (const auto& meter : world_->memory()) peaks.push_back(meter->peak());
  return peaks;
}

StepStats Engine::step_stats() const {
  StepStats sum;
  for (const auto& replica : replicas_) {
    const StepStats stats = replica->stats();
    sum.steps += stats.steps;
    sum.prompt_tokens += stats.prompt_tokens;
    sum.generated_tokens += stats.generated_tokens;
    sum.tokens += stats.tokens;
    for (size_t i = 0; i < sum.by_tokens.size(); ++i) sum.by_tokens[i] += stats.by_tokens[i];
    sum.prompt_seconds += stats.prompt_seconds;
    sum.generation_seconds += stats.generation_seconds;
    sum.planning_seconds += stats.planning_seconds;
    sum.output_seconds += stats.output_seconds;
    sum.sampling_seconds += stats.sampling_seconds;
  }
  return sum;
}

CacheUse Engine::cache_use() const {
  CacheUse sum;
  for (const auto& replica : replicas_) {
    const CacheUse use = replica->cache_use();
    sum.total_pages += use.total_pages;
    sum.used_pages += use.used_pages;
    sum.cached_pages += use.cached_pages;
    sum.preemptions += use.preemptions;
    sum.stats.queried_tokens += use.stats.queried_tokens;
    sum.stats.reused_tokens += use.stats.reused_tokens;
    sum.stats.computed_tokens += use.stats.computed_tokens;
    sum.stats.evicted_pages += use.stats.evicted_pages;
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

void Engine::start_expert_statistics() {
  for (const auto& balancer : balancers_) balancer->record(0, std::numeric_limits<int64_t>::max());
}

int64_t Engine::stop_expert_statistics(const std::filesystem::path& directory) {
  world_->on_all([](RankState&) {});  // what ended before this call has been counted
  std::vector<std::vector<ExpertMeter::Counts>> recorded;
  for (const auto& balancer : balancers_) {
    balancer->record(0, 0);
    recorded.push_back(balancer->take_recorded());
  }
  return write_recorded(directory, setup_.spec, mesh(), recorded);
}

int64_t Engine::write_expert_statistics() {
  const ExpertStatisticConfig& config = setup_.config.expert_statistic;
  return config.iter_range.empty() ? 0 : stop_expert_statistics(config.path);
}

std::vector<ExpertStatus> Engine::expert_status() const {
  std::vector<ExpertStatus> status;
  for (const auto& balancer : balancers_) status.push_back(balancer->status());
  return status;
}

std::vector<ExpertStatus> Engine::expert_status_without_steps() const {
  std::vector<ExpertStatus> status;
  for (const auto& balancer : balancers_) status.push_back(balancer->status_without_steps());
  return status;
}

ExpertLoads Engine::expert_loads() {
  std::vector<std::map<int64_t, LayerPicks>> of_rank(mesh().world_size());
  world_->on_all([&](RankState& state) { of_rank[state.rank] = state.model->expert_picks(); });
  ExpertLoads result;
  for (int rank = 0; rank < mesh().world_size(); ++rank) {
    const Coordinates at = mesh().at(rank);
    for (const auto& [layer, picks] : of_rank[rank]) {
      add_to(result.by_expert[layer], picks.by_expert);
      std::vector<int64_t>& by_rank = result.by_ep_rank[layer];
      by_rank.resize(mesh().sizes().moe_expert);
      if (at.moe_tp == 0) by_rank[at.moe_ep] += picks.computed;  // the others compute slices of the same
    }
  }
  return result;
}

}  // namespace shoal
