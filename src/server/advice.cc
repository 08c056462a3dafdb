// SPDX-License-Identifier: Apache-2.0
#include "server/advice.h"

#include <fmt/format.h>

#include <algorithm>

namespace shoal {
namespace {

constexpr double kPagesScarce = 0.9;  // of the KV pages in use
constexpr double kWaits = 0.25;       // share of the busy time from which waiting is what bounds
constexpr double kStraggler = 1.15;   // times the median's compute time
constexpr double kUnbalanced = 1.15;  // mean max/mean of the MoE layers
constexpr double kComputes = 0.7;     // share of the busy time
constexpr double kHardlyBusy = 0.02;  // of the time there were steps to run: no rule can be sure

// Means over the ranks, as shares of the time in which there were steps to run.
struct Times {
  double busy = 0;  // that time, as a share of all
  double compute = 0, communication = 0, stage = 0, idle = 0;
};

Times mean_times(const std::vector<RankShares>& ranks) {
  Times sum;
  for (const RankShares& rank : ranks) {
    sum.compute += rank.compute;
    sum.communication += rank.communication;
    sum.stage += rank.stage;
    sum.idle += rank.idle;
  }
  const double all = sum.compute + sum.communication + sum.stage + sum.idle;
  if (ranks.empty() || all <= 0) return {};
  return {.busy = all / static_cast<double>(ranks.size()),
          .compute = sum.compute / all,
          .communication = sum.communication / all,
          .stage = sum.stage / all,
          .idle = sum.idle / all};
}

int percent(double share) { return static_cast<int>(share * 100 + 0.5); }

struct Straggler {
  size_t rank = 0;
  double times_median = 1;
};
// Ranks of one stage work on the same step and wait for the one that computes longest.
Straggler straggler(const std::vector<RankShares>& ranks) {
  std::vector<double> compute;
  for (const RankShares& rank : ranks) compute.push_back(rank.compute);
  const auto slowest = std::max_element(compute.begin(), compute.end());
  const Straggler result{.rank = static_cast<size_t>(slowest - compute.begin()), .times_median = *slowest};
  std::nth_element(compute.begin(), compute.begin() + std::ssize(compute) / 2, compute.end());
  const double median = compute[compute.size() / 2];
  return {.rank = result.rank, .times_median = median > 0 ? result.times_median / median : 1};
}

struct Seen {
  const Sample& before;
  const Sample& now;
  std::vector<RankShares> ranks;
  Times times;
  const EngineStats& stats() const { return now.engine->stats; }
};

std::string stuck(const Seen& seen) {
  for (const RankStats& rank : seen.stats().ranks)
    if (rank_state(rank, seen.now.server.stall_seconds) == std::string_view("stalled"))
      return fmt::format("Stuck: rank {} has been in one step for {:.0f} s while the others wait for it.", rank.rank,
                         rank.in_step_seconds);
  return {};
}

std::string kv_bound(const Seen& seen) {
  const CacheUse& cache = seen.stats().cache;
  const int64_t preemptions =
      cache.preemptions - (seen.before.engine ? seen.before.engine->stats.cache.preemptions : 0);
  const double used =
      cache.total_pages > 0 ? static_cast<double>(cache.used_pages) / static_cast<double>(cache.total_pages) : 0;
  const bool scarce = seen.stats().requests.waiting > 0 && used >= kPagesScarce;
  if (preemptions <= 0 && !scarce) return {};
  return fmt::format(
      "KV-bound: {} % of the KV pages are in use while requests wait: {} ({} preempted in the last {:.0f} s); give "
      "the cache more (kv_cache_config.free_memory_fraction, max_tokens) or spread it over more ranks.",
      percent(used), seen.stats().requests.waiting, std::max<int64_t>(0, preemptions),
      seen.now.time - seen.before.time);
}

std::string imbalance_bound(const Seen& seen) {
  const auto balance = imbalance(seen.now.engine->experts);
  if (!balance || balance->mean < kUnbalanced || seen.times.communication < kWaits) return {};
  const bool online = seen.now.engine->experts.front().online;
  return fmt::format(
      "Imbalance-bound: the busiest EP rank of a MoE layer computes {:.2f} times the mean (worst layer {:.2f}), and "
      "ranks spend {} % of their time waiting and communicating; {}.",
      balance->mean, balance->worst, percent(seen.times.communication),
      online ? "experts are being moved" : "moe_config.load_balancer would move experts");
}

std::string straggler_bound(const Seen& seen) {
  if (seen.ranks.size() < 2 || seen.times.communication + seen.times.stage < kWaits) return {};
  const Straggler slow = straggler(seen.ranks);
  if (slow.times_median < kStraggler) return {};
  return fmt::format(
      "Wait-bound: rank {} computes {:.2f} times as long as the median rank; the ranks spend {} % of their time "
      "waiting "
      "and communicating.",
      slow.rank, slow.times_median, percent(seen.times.communication + seen.times.stage));
}

std::string bubble_bound(const Seen& seen) {
  if (seen.now.engine->facts.sizes.pipeline < 2 || seen.times.stage + seen.times.idle < kWaits) return {};
  return fmt::format(
      "Bubble-bound: pipeline stages wait {} % of the time for each other; more requests at a time fill them, or fewer "
      "stages.",
      percent(seen.times.stage + seen.times.idle));
}

std::string communication_bound(const Seen& seen) {
  if (seen.times.communication < kWaits) return {};
  return fmt::format(
      "Communication-bound: ranks spend {} % of their time in collectives, all about alike; larger batches or fewer "
      "tensor-parallel ranks lower it.",
      percent(seen.times.communication));
}

std::string planning_bound(const Seen& seen) {
  if (seen.times.idle < kWaits) return {};
  return fmt::format(
      "Step-bound: ranks are idle {} % of the time between steps, while tokens are sampled and the next step is "
      "planned.",
      percent(seen.times.idle));
}

std::string queue_bound(const Seen& seen) {
  const RequestCounts& requests = seen.stats().requests;
  if (requests.waiting == 0) return {};
  return fmt::format(
      "Queue-bound: {} wait{}, the oldest for {:.1f} s, behind {} running; a larger max_batch_size or more "
      "replicas take more at a time.",
      requests.waiting, requests.waiting == 1 ? "s" : "", seen.now.server.oldest_waiting_seconds, requests.running);
}

std::string compute_bound(const Seen& seen) {
  if (seen.times.compute < kComputes) return {};
  return fmt::format("Compute-bound: ranks compute {} % of the time; nothing else holds them up.",
                     percent(seen.times.compute));
}

}  // namespace

std::string advice(const Sample& before, const Sample& now) {
  if (now.server.state != "ready" || !now.engine || !before.engine) return {};
  const Seen seen{before, now, rank_shares(before, now), mean_times(rank_shares(before, now))};
  if (std::string text = stuck(seen); !text.empty()) return text;
  const RequestCounts& requests = seen.stats().requests;
  if (seen.times.busy < kHardlyBusy)
    return requests.running + requests.waiting == 0
               ? fmt::format("Idle: no request in the last {:.0f} s.", now.time - before.time)
               : "";
  for (const auto rule : {kv_bound, imbalance_bound, straggler_bound, bubble_bound, communication_bound, planning_bound,
                          queue_bound, compute_bound})
    if (std::string text = rule(seen); !text.empty()) return text;
  return {};
}

}  // namespace shoal
