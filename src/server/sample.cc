// SPDX-License-Identifier: Apache-2.0
#include "server/sample.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

// A new engine counts from 0.
int64_t growth(int64_t before, int64_t now) { return now >= before ? now - before : now; }
double growth(double before, double now) { return now >= before ? now - before : now; }

template <typename Map>
int64_t sum_of(const Map& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0},
                         [](int64_t sum, const auto& entry) { return sum + entry.second; });
}

double rounded(double value, double unit) { return std::round(value / unit) * unit; }

Json percentiles_ms(const std::vector<double>& bounds, const std::vector<int64_t>& before,
                    const std::vector<int64_t>& now) {
  std::vector<int64_t> counts(now.size());
  for (size_t i = 0; i < now.size(); ++i) counts[i] = now[i] - (i < before.size() ? before[i] : 0);
  const auto ms = [&](double share) { return percentile(bounds, counts, share).value_or(0) * 1e3; };
  if (std::accumulate(counts.begin(), counts.end(), int64_t{0}) == 0) return nullptr;
  return {{"p50", rounded(ms(0.5), 1e-3)}, {"p90", rounded(ms(0.9), 1e-3)}, {"p99", rounded(ms(0.99), 1e-3)}};
}

struct Moved {
  int64_t bytes = 0, copies = 0;
  double wait_seconds = 0;
};
Moved moved(const EngineReading* engine) {
  Moved sum;
  if (!engine) return sum;
  for (const ExpertStatus& status : engine->experts) {
    sum.bytes += status.moves.bytes;
    sum.copies += status.moves.copies;
    sum.wait_seconds += status.wait_seconds;
  }
  return sum;
}

void add_rates(Json& json, const Sample& before, const Sample& now) {
  const double seconds = std::max(1e-3, now.time - before.time);
  const auto rate = [seconds](int64_t from, int64_t to) {
    return rounded(static_cast<double>(growth(from, to)) / seconds, 1e-3);
  };
  json["prompt_tokens_per_second"] = rate(before.counts.prompt_tokens, now.counts.prompt_tokens);
  json["generated_tokens_per_second"] = rate(before.counts.generated_tokens, now.counts.generated_tokens);
  json["requests_per_second"] = rate(sum_of(before.counts.finished), sum_of(now.counts.finished));
}

void add_cache(Json& json, const Sample& before, const Sample& now) {
  const CacheUse cache = now.engine ? now.engine->stats.cache : CacheUse{};
  const CacheUse last = before.engine ? before.engine->stats.cache : CacheUse{};
  const auto share = [](int64_t part, int64_t whole) {
    return whole > 0 ? rounded(static_cast<double>(part) / static_cast<double>(whole), 1e-4) : 0.0;
  };
  json["kv_used"] = share(cache.used_pages, cache.total_pages);
  json["kv_cached"] = share(cache.cached_pages, cache.total_pages);
  json["kv_hit"] = share(cache.stats.reused_tokens, cache.stats.queried_tokens);
  json["preemptions"] = growth(last.preemptions, cache.preemptions);
}

void add_balance(Json& json, const Sample& before, const Sample& now) {
  const std::optional<Imbalance> balance = now.engine ? imbalance(now.engine->experts) : std::nullopt;
  json["imbalance"] =
      balance ? Json{{"worst", rounded(balance->worst, 1e-4)}, {"mean", rounded(balance->mean, 1e-4)}} : Json(nullptr);
  const Moved last = moved(before.engine.get()), all = moved(now.engine.get());
  json["moved_bytes"] = growth(last.bytes, all.bytes);
  json["moved_copies"] = growth(last.copies, all.copies);
  json["stall_ms"] = rounded(growth(last.wait_seconds, all.wait_seconds) * 1e3, 1e-3);
}

Json ranks_array(const Sample& before, const Sample& now) {
  Json ranks = Json::array();
  const std::vector<RankShares> shares = rank_shares(before, now);
  for (size_t rank = 0; rank < shares.size(); ++rank) {
    const RankShares& share = shares[rank];
    ranks.push_back({rounded(share.compute, 1e-4), rounded(share.communication, 1e-4), rounded(share.stage, 1e-4),
                     rounded(share.idle, 1e-4), rounded(share.tokens_per_second, 1e-2),
                     rounded(now.engine->stats.ranks[rank].last_step_age_seconds, 1e-3)});
  }
  return ranks;
}

RankShares shares_of(const RankStats& before, const RankStats& now, double seconds) {
  RankShares shares{.compute = growth(before.compute_seconds, now.compute_seconds) / seconds,
                    .communication = growth(before.communication_seconds, now.communication_seconds) / seconds,
                    .stage = growth(before.stage_seconds, now.stage_seconds) / seconds,
                    .idle = growth(before.idle_seconds, now.idle_seconds) / seconds,
                    .tokens_per_second = static_cast<double>(growth(before.tokens, now.tokens)) / seconds};
  // A step that began before `before` counts whole when it ends.
  const double all = shares.compute + shares.communication + shares.stage + shares.idle;
  if (all > 1) {
    for (double* share : {&shares.compute, &shares.communication, &shares.stage, &shares.idle}) *share /= all;
  }
  return shares;
}

}  // namespace

Latencies read_latencies(const ServerMetrics& metrics) {
  return {.first_token = metrics.fine_time_to_first_token().counts(),
          .between_tokens = metrics.fine_inter_token().counts(),
          .total = metrics.fine_total().counts()};
}

std::optional<double> percentile(const std::vector<double>& bounds, const std::vector<int64_t>& counts, double share) {
  const int64_t all = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  if (all == 0) return std::nullopt;
  const double wanted = share * static_cast<double>(all);
  double below = 0;
  for (size_t i = 0; i < bounds.size(); ++i) {
    const auto here = static_cast<double>(counts[i]);
    if (here > 0 && below + here >= wanted) {
      const double low = i > 0 ? bounds[i - 1] : 0.0;
      return low + (bounds[i] - low) * (wanted - below) / here;
    }
    below += here;
  }
  return bounds.back();
}

std::vector<RankShares> rank_shares(const Sample& before, const Sample& now) {
  if (!now.engine) return {};
  const std::vector<RankStats>& ranks = now.engine->stats.ranks;
  std::vector<RankShares> shares(ranks.size());
  if (!before.engine || before.engine->stats.ranks.size() != ranks.size()) return shares;
  const double seconds = std::max(1e-3, now.time - before.time);
  for (size_t rank = 0; rank < ranks.size(); ++rank)
    shares[rank] = shares_of(before.engine->stats.ranks[rank], ranks[rank], seconds);
  return shares;
}

Json point_json(const Sample& before, const Sample& now, const std::vector<double>& bounds) {
  const RequestCounts requests = now.engine ? now.engine->stats.requests : RequestCounts{};
  Json json = {{"t", rounded(now.time, 1e-3)},
               {"state", now.server.state},
               {"running", requests.running},
               {"waiting", requests.waiting},
               {"oldest_waiting_seconds", rounded(now.server.oldest_waiting_seconds, 1e-3)}};
  if (now.server.state == "loading") json["progress"] = now.server.progress;
  add_rates(json, before, now);
  const Latencies& last = before.latencies;
  json["ttft_ms"] = percentiles_ms(bounds, last.first_token, now.latencies.first_token);
  json["itl_ms"] = percentiles_ms(bounds, last.between_tokens, now.latencies.between_tokens);
  json["e2e_ms"] = percentiles_ms(bounds, last.total, now.latencies.total);
  add_cache(json, before, now);
  add_balance(json, before, now);
  json["queue_refusals"] = growth(sum_of(before.counts.refused), sum_of(now.counts.refused));
  json["ranks"] = ranks_array(before, now);
  return json;
}

}  // namespace shoal
