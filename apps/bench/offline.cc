// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/offline.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace shoal::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kSampleEvery = std::chrono::milliseconds(20);

double process_cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

EngineStats difference(EngineStats after, const EngineStats& before) {
  after.steps.steps -= before.steps.steps;
  after.steps.prompt_tokens -= before.steps.prompt_tokens;
  after.steps.generated_tokens -= before.steps.generated_tokens;
  after.steps.prompt_seconds -= before.steps.prompt_seconds;
  after.steps.generation_seconds -= before.steps.generation_seconds;
  after.steps.planning_seconds -= before.steps.planning_seconds;
  after.steps.sampling_seconds -= before.steps.sampling_seconds;
  after.cache.preemptions -= before.cache.preemptions;
  after.cache.stats.reused_tokens -= before.cache.stats.reused_tokens;
  after.cache.stats.computed_tokens -= before.cache.stats.computed_tokens;
  after.cache.stats.evicted_pages -= before.cache.stats.evicted_pages;
  for (size_t i = 0; i < after.ranks.size(); ++i) {
    RankStats& rank = after.ranks[i];
    rank.steps -= before.ranks[i].steps;
    rank.compute_seconds -= before.ranks[i].compute_seconds;
    rank.communication_seconds -= before.ranks[i].communication_seconds;
    rank.stage_seconds -= before.ranks[i].stage_seconds;
    rank.idle_seconds -= before.ranks[i].idle_seconds;
    rank.tokens -= before.ranks[i].tokens;
    for (size_t to = 0; to < rank.sent_bytes.size() && to < before.ranks[i].sent_bytes.size(); ++to)
      rank.sent_bytes[to] -= before.ranks[i].sent_bytes[to];
  }
  return after;
}

void subtract(std::map<int64_t, std::vector<int64_t>>& after, const std::map<int64_t, std::vector<int64_t>>& before) {
  for (auto& [layer, counts] : after) {
    const auto found = before.find(layer);
    for (size_t i = 0; found != before.end() && i < counts.size(); ++i) counts[i] -= found->second[i];
  }
}

class Run {
 public:
  Run(Engine& engine, const std::vector<BenchRequest>& requests, const OfflineOptions& options)
      : engine_(engine), requests_(requests), options_(options) {
    result_.records.resize(requests.size());
  }
  ~Run() {
    if (finished() < static_cast<int64_t>(ids_.size())) {
      for (const uint64_t id : ids_) engine_.cancel(id);
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return finished_ == static_cast<int64_t>(ids_.size()); });
  }

  OfflineRun run() {
    const EngineStats before = engine_.stats();
    const ExpertLoads loads = engine_.expert_loads();
    const double cpu = process_cpu_seconds();
    start_ = Clock::now();
    const auto count = static_cast<int64_t>(requests_.size());
    while (finished() < count) {
      submit_due();
      wait();
      note_load();
      if (options_.on_progress) options_.on_progress(finished(), tokens());
    }
    result_.seconds = seconds_now();
    result_.cpu_seconds = process_cpu_seconds() - cpu;
    result_.stats = difference(engine_.stats(), before);
    result_.loads = engine_.expert_loads();
    subtract(result_.loads.by_expert, loads.by_expert);
    subtract(result_.loads.by_ep_rank, loads.by_ep_rank);
    return std::move(result_);
  }

 private:
  double seconds_now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  double due(size_t index) const { return options_.due_s.empty() ? 0 : options_.due_s[index]; }
  int64_t finished() const {
    const std::lock_guard lock(mutex_);
    return finished_;
  }
  int64_t tokens() const {
    const std::lock_guard lock(mutex_);
    return tokens_;
  }
  bool has_room() const {
    return options_.concurrency <= 0 || static_cast<int64_t>(ids_.size()) - finished() < options_.concurrency;
  }

  void submit_due() {
    for (size_t next = ids_.size(); next < requests_.size(); ++next) {
      if (!has_room() || due(next) > seconds_now()) return;
      submit(next);
    }
  }

  void submit(size_t index) {
    const BenchRequest& request = requests_[index];
    RequestRecord& record = result_.records[index];
    SamplingParams params = options_.sampling;
    params.max_tokens = request.output_tokens;
    record.pieces_s.reserve(request.output_tokens);
    record.input_tokens = static_cast<int64_t>(request.ids.size());
    record.start_s = seconds_now();
    record.queued_s = options_.due_s.empty() ? record.start_s : due(index);
    RequestCallbacks callbacks;
    callbacks.on_output = [this, &record](const OutputDelta&) { record.pieces_s.push_back(seconds_now()); };
    callbacks.on_finish = [this, &record](GenerationResult result) { finish(record, std::move(result)); };
    SchedulingParams scheduling;
    scheduling.cache_salt = options_.cache_salt;
    ids_.push_back(engine_.submit(request.ids, params, std::move(callbacks), scheduling));
  }

  void finish(RequestRecord& record, GenerationResult result) {
    record.end_s = record.pieces_s.empty() ? seconds_now() : record.pieces_s.back();
    record.output_tokens = static_cast<int64_t>(result.token_ids.size());
    record.cached_tokens = result.cached_tokens;
    record.ok = result.finish_reason == FinishReason::kStop || result.finish_reason == FinishReason::kLength;
    record.error = record.ok ? "" : result.error.empty() ? "cancelled" : result.error;
    record.text = std::move(result.text);
    record.token_ids = std::move(result.token_ids);
    const std::lock_guard lock(mutex_);
    ++finished_;
    tokens_ += record.output_tokens;
    changed_.notify_one();
  }

  // Until a request ends, the next one is due, or it is time to look at the load.
  void wait() {
    std::unique_lock lock(mutex_);
    auto until = Clock::now() + kSampleEvery;
    const size_t next = ids_.size();
    if (next < requests_.size() && !options_.due_s.empty()) {
      const auto at = start_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(due(next)));
      if (at > Clock::now()) until = std::min(until, at);
    }
    const int64_t seen = seen_;
    changed_.wait_until(lock, until, [&] { return finished_ != seen; });
    seen_ = finished_;
  }

  void note_load() {
    if (Clock::now() - noted_ < kSampleEvery) return;
    noted_ = Clock::now();
    const EngineStats stats = engine_.stats();
    const auto total = static_cast<double>(std::max<int64_t>(1, stats.cache.total_pages));
    result_.peak_pages = std::max(result_.peak_pages, stats.cache.used_pages);
    result_.load.push_back({.at_s = seconds_now(),
                            .running = stats.requests.running,
                            .waiting = stats.requests.waiting,
                            .kv_used = static_cast<double>(stats.cache.used_pages) / total});
  }

  Engine& engine_;
  const std::vector<BenchRequest>& requests_;
  const OfflineOptions& options_;
  Clock::time_point start_, noted_;
  OfflineRun result_;          // each record is its request's until it has finished
  std::vector<uint64_t> ids_;  // of the engine, in order of submission
  int64_t seen_ = 0;

  mutable std::mutex mutex_;  // for what follows
  std::condition_variable changed_;
  int64_t finished_ = 0;
  int64_t tokens_ = 0;
};

}  // namespace

OfflineRun run_offline(Engine& engine, const std::vector<BenchRequest>& requests, const OfflineOptions& options) {
  return Run(engine, requests, options).run();
}

}  // namespace shoal::bench
