// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace shoal::bench {

Sample::Sample(std::vector<double> values) : sorted_(std::move(values)) {
  if (sorted_.empty()) return;
  std::sort(sorted_.begin(), sorted_.end());
  const auto count = static_cast<double>(sorted_.size());
  mean_ = std::accumulate(sorted_.begin(), sorted_.end(), 0.0) / count;
  double squares = 0;
  for (const double value : sorted_) squares += (value - mean_) * (value - mean_);
  deviation_ = std::sqrt(squares / count);
}

double Sample::percentile(double p) const {
  if (sorted_.empty()) return 0;
  const double place = std::clamp(p, 0.0, 100.0) / 100 * static_cast<double>(sorted_.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted_.size() - 1);
  return sorted_[below] + (place - static_cast<double>(below)) * (sorted_[above] - sorted_[below]);
}

RunSamples samples_of(const std::vector<RequestRecord>& records) {
  RunSamples run;
  std::vector<double> ttft, tpot, itl, latency, queue, with_queue, per_user, generation;
  for (const RequestRecord& record : records) {
    if (!record.ok) {
      ++run.failed;
      continue;
    }
    ++run.completed;
    run.input_tokens += record.input_tokens;
    run.output_tokens += record.output_tokens;
    run.cached_tokens += record.cached_tokens;
    ttft.push_back(record.ttft());
    latency.push_back(record.latency());
    queue.push_back(record.queue_time());
    with_queue.push_back(record.latency() + record.queue_time());
    if (record.latency() > 0) per_user.push_back(static_cast<double>(record.output_tokens) / record.latency());
    if (record.output_tokens > 1) tpot.push_back(record.tpot());
    if (record.output_tokens > 1 && record.tpot() > 0) generation.push_back(1 / record.tpot());
    for (size_t i = 1; i < record.pieces_s.size(); ++i) itl.push_back(record.pieces_s[i] - record.pieces_s[i - 1]);
  }
  run.ttft = Sample(std::move(ttft));
  run.tpot = Sample(std::move(tpot));
  run.itl = Sample(std::move(itl));
  run.latency = Sample(std::move(latency));
  run.queue_time = Sample(std::move(queue));
  run.latency_with_queue = Sample(std::move(with_queue));
  run.output_per_user = Sample(std::move(per_user));
  run.generation_per_user = Sample(std::move(generation));
  return run;
}

std::vector<double> tokens_by_second(const std::vector<RequestRecord>& records) {
  double first = 0, last = 0;
  bool any = false;
  for (const RequestRecord& record : records) {
    if (!record.ok) continue;
    first = any ? std::min(first, record.start_s) : record.start_s;
    last = any ? std::max(last, record.end_s) : record.end_s;
    any = true;
  }
  if (!any) return {};
  std::vector<double> seconds(static_cast<size_t>(std::max(0.0, last - first)) + 1);
  for (const RequestRecord& record : records) {
    if (!record.ok || record.pieces_s.empty()) continue;
    const double share = static_cast<double>(record.output_tokens) / static_cast<double>(record.pieces_s.size());
    for (const double at : record.pieces_s) {
      const auto second = static_cast<size_t>(std::max(0.0, at - first));
      seconds[std::min(second, seconds.size() - 1)] += share;
    }
  }
  return seconds;
}

int64_t peak_concurrency(const std::vector<RequestRecord>& records) {
  std::vector<std::pair<double, int>> changes;
  for (const RequestRecord& record : records) {
    if (!record.ok) continue;
    changes.emplace_back(record.start_s, 1);
    changes.emplace_back(record.end_s, -1);
  }
  std::sort(changes.begin(), changes.end());  // at equal times, ends come first
  int64_t now = 0, peak = 0;
  for (const auto& [at, change] : changes) peak = std::max(peak, now += change);
  return peak;
}

int64_t count_good(const std::vector<RequestRecord>& records, const Objectives& objectives) {
  const auto meets = [](double seconds, double limit_ms) { return limit_ms < 0 || 1e3 * seconds <= limit_ms; };
  return std::count_if(records.begin(), records.end(), [&](const RequestRecord& record) {
    return record.ok && meets(record.ttft(), objectives.ttft_ms) && meets(record.tpot(), objectives.tpot_ms) &&
           meets(record.latency(), objectives.e2el_ms);
  });
}

}  // namespace shoal::bench
