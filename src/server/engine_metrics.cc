// SPDX-License-Identifier: Apache-2.0
#include "server/engine_metrics.h"

#include <algorithm>
#include <numeric>
#include <string_view>

namespace shoal {
namespace {

using Labels = MetricPage::Labels;

void add_layout(MetricPage& page, const EngineFacts& facts) {
  const auto text = [](int size) { return std::to_string(size); };
  const GridSizes& sizes = facts.sizes;
  page.gauge("shoal_parallel_config_info", "The layout, as labels; always 1.")
      .add(1.0, {{"layout", facts.layout},
                 {"tensor_parallel_size", text(sizes.tensor)},
                 {"pipeline_parallel_size", text(sizes.pipeline)},
                 {"data_parallel_size", text(sizes.data)},
                 {"context_parallel_size", text(sizes.context)},
                 {"attention_dp_size", text(sizes.attention_data)},
                 {"moe_tensor_parallel_size", text(sizes.moe_tensor)},
                 {"moe_expert_parallel_size", text(sizes.moe_expert)},
                 {"ranks", std::to_string(facts.ranks.size())},
                 {"hosts", "1"}});
  page.gauge("shoal_model_config_info", "What computes, as labels; always 1.")
      .add(1.0, {{"backend", facts.backend},
                 {"dtype", facts.dtype},
                 {"kv_dtype", facts.kv_dtype},
                 {"max_seq_len", std::to_string(facts.max_seq_len)},
                 {"threads_per_rank", text(facts.threads_per_rank)},
                 {"experts", std::to_string(facts.experts)},
                 {"top_k", std::to_string(facts.top_k)}});
}

Labels of_rank(const RankStats& rank) { return {{"rank", std::to_string(rank.rank)}}; }
Labels of_rank(const RankStats& rank, const char* name, const char* value) {
  return {{"rank", std::to_string(rank.rank)}, {name, value}};
}

// One metric of every rank.
template <typename Value>
void add_by_rank(MetricPage::Metric metric, const EngineStats& stats, Value&& value) {
  for (const RankStats& rank : stats.ranks) metric.add(value(rank), of_rank(rank));
}

void add_rank_times(MetricPage& page, const EngineStats& stats) {
  auto seconds = page.counter("shoal_rank_step_seconds_total",
                              "Where each rank's time went while there were steps to run; the phases add up to it. "
                              "communication includes waiting for slower ranks of the stage, stage for other stages, "
                              "idle for the next step to be planned.");
  for (const RankStats& rank : stats.ranks) {
    seconds.add(rank.compute_seconds, of_rank(rank, "phase", "compute"));
    seconds.add(rank.communication_seconds, of_rank(rank, "phase", "communication"));
    seconds.add(rank.stage_seconds, of_rank(rank, "phase", "stage"));
    seconds.add(rank.idle_seconds, of_rank(rank, "phase", "idle"));
  }
  add_by_rank(page.gauge("shoal_rank_bubble_ratio",
                         "Share of that time, since the start, in which the rank had nothing to work on."),
              stats, [](const RankStats& rank) { return rank.bubble(); });
  add_by_rank(page.gauge("shoal_rank_last_step_age_seconds", "Since the rank ended a step, or started."), stats,
              [](const RankStats& rank) { return rank.last_step_age_seconds; });
  add_by_rank(page.gauge("shoal_rank_in_step_seconds", "Since the rank began the step that it is in; 0: in none."),
              stats, [](const RankStats& rank) { return rank.in_step_seconds; });
}

void add_rank_work(MetricPage& page, const ServerStatus& server, const EngineStats& stats) {
  add_by_rank(page.gauge("shoal_rank_up", "1, or 0 of a rank that failed or stalled."), stats,
              [&](const RankStats& rank) {
                const bool serves = server.state == "ready" || server.state == "draining";
                return serves && std::string_view(rank_state(rank, server.stall_seconds)) == "ok" ? 1.0 : 0.0;
              });
  add_by_rank(page.counter("shoal_rank_steps_total", "Steps that the rank has ended."), stats,
              [](const RankStats& rank) { return rank.steps; });
  add_by_rank(page.counter("shoal_rank_tokens_total",
                           "Tokens of its attention-DP group that went through the rank's layers, cached ones not."),
              stats, [](const RankStats& rank) { return rank.tokens; });
  add_by_rank(page.counter("shoal_rank_bytes_total", "Bytes that the rank sent to others; by receiver: /v1/ranks."),
              stats, [](const RankStats& rank) {
                return std::accumulate(rank.sent_bytes.begin(), rank.sent_bytes.end(), int64_t{0});
              });
}

void add_memory(MetricPage& page, const EngineReading& engine) {
  auto memory = page.gauge("shoal_rank_memory_bytes",
                           "Memory of each rank: weights (experts not), experts (slots, and room for those that "
                           "move), kv (all pages), scratch (upper bound of a step's activations).");
  for (const RankStats& rank : engine.stats.ranks) {
    const RankFacts& facts = engine.facts.ranks[rank.rank];
    memory.add(facts.weight_bytes - facts.expert_bytes, of_rank(rank, "kind", "weights"));
    memory.add(facts.expert_bytes, of_rank(rank, "kind", "experts"));
    memory.add(facts.kv_bytes, of_rank(rank, "kind", "kv"));
    memory.add(facts.activation_bytes, of_rank(rank, "kind", "scratch"));
  }
}

void add_cache(MetricPage& page, const CacheUse& cache) {
  page.gauge("shoal_kv_pages", "Pages of the KV cache over all pools and groups, by state.")
      .add(cache.used_pages, {{"state", "used"}})
      .add(cache.cached_pages, {{"state", "cached"}})
      .add(cache.total_pages - cache.used_pages - cache.cached_pages, {{"state", "free"}});
  page.counter("shoal_kv_evicted_pages_total", "Cached pages that were given up for others.")
      .add(cache.stats.evicted_pages);
}

// EP rank r of a stage computes for the stage's layers; MoE-TP ranks of a column compute slices of the same picks.
int64_t picks_of(const EngineReading& engine, const RankFacts& facts) {
  int64_t picks = 0;
  for (const auto& [layer, by_rank] : engine.experts[facts.at.dp].picks_by_ep_rank)
    if (facts.layers.contains(layer)) picks += by_rank[facts.at.moe_ep];
  return picks;
}

void add_experts(MetricPage& page, const EngineReading& engine) {
  add_by_rank(page.counter("shoal_moe_rank_tokens_total",
                           "Routed (token, expert) pairs that the rank's slots computed, over its layers."),
              engine.stats, [&](const RankStats& rank) { return picks_of(engine, engine.facts.ranks[rank.rank]); });
  auto layers =
      page.gauge("shoal_moe_layer_max_over_mean",
                 "Recent routed pairs of the layer's busiest EP rank over the mean of its EP ranks; 1 is even.");
  for (size_t dp = 0; dp < engine.experts.size(); ++dp)
    for (const auto& [layer, loads] : engine.experts[dp].by_ep_rank)
      layers.add(max_over_mean(loads), {{"layer", std::to_string(layer)}, {"dp", std::to_string(dp)}});
  const Imbalance all = imbalance(engine.experts).value_or(Imbalance{});
  page.gauge("shoal_moe_max_over_mean", "The same over all layers: the worst, and the mean.")
      .add(all.worst, {{"layers", "worst"}})
      .add(all.mean, {{"layers", "mean"}});
}

void add_moves(MetricPage& page, const EngineReading& engine) {
  ExpertStatus sum;
  for (const ExpertStatus& status : engine.experts) {
    sum.plans += status.plans;
    sum.planning_seconds += status.planning_seconds;
    sum.wait_seconds += status.wait_seconds;
    sum.longest_wait_ms = std::max(sum.longest_wait_ms, status.longest_wait_ms);
    sum.moves.layers += status.moves.layers;
    sum.moves.given_up += status.moves.given_up;
    sum.moves.copies += status.moves.copies;
    sum.moves.bytes += status.moves.bytes;
  }
  page.gauge("shoal_eplb_online", "1 where experts move while requests run.")
      .add(!engine.experts.empty() && engine.experts.front().online ? 1.0 : 0.0);
  page.counter("shoal_eplb_plans_total", "Layers whose placement was looked at.").add(sum.plans);
  page.counter("shoal_eplb_planning_seconds_total", "Time of the planner's own thread.").add(sum.planning_seconds);
  page.counter("shoal_eplb_rebalances_total", "Layers that changed their placement, or could not.")
      .add(sum.moves.layers, {{"result", "done"}})
      .add(sum.moves.given_up, {{"result", "given_up"}});
  page.counter("shoal_eplb_moved_copies_total", "Slots that were filled from another rank.").add(sum.moves.copies);
  page.counter("shoal_eplb_moved_bytes_total", "Bytes of these.").add(sum.moves.bytes);
  page.counter("shoal_eplb_stall_seconds_total",
               "By which steps were longer for copies, on the rank where it was most.")
      .add(sum.wait_seconds);
  page.gauge("shoal_eplb_longest_stall_seconds", "The most of these of one step.").add(sum.longest_wait_ms * 1e-3);
}

void add_steps(MetricPage& page, const StepStats& steps) {
  page.counter("shoal_steps_total", "Steps of all replicas.").add(steps.steps);
  page.counter("shoal_step_tokens_total", "Tokens of these.").add(steps.tokens);
  page.counter("shoal_planning_seconds_total", "Time of the threads that plan steps and take their results.")
      .add(steps.planning_seconds);
  page.counter("shoal_sampling_seconds_total", "Time of the ranks that sample.").add(steps.sampling_seconds);
}

}  // namespace

void add_engine_metrics(MetricPage& page, const ServerStatus& server, const EngineReading& engine) {
  add_layout(page, engine.facts);
  add_rank_work(page, server, engine.stats);
  add_rank_times(page, engine.stats);
  add_memory(page, engine);
  add_cache(page, engine.stats.cache);
  add_steps(page, engine.stats.steps);
  if (engine.experts.empty()) return;
  add_experts(page, engine);
  add_moves(page, engine);
}

}  // namespace shoal
