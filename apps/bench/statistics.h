// SPDX-License-Identifier: Apache-2.0
// Statistics of benchmark runs. Percentiles interpolate linearly between order statistics (numpy's default), deviations are the
// population's (numpy's std). An empty sample gives 0 everywhere, as in vLLM's reports.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/bench/record.h"

namespace shoal::bench {

// A report warns where more of the prompt tokens than this came from the prefix cache.
constexpr double kMuchReuse = 0.05;

class Sample {
 public:
  Sample() = default;
  explicit Sample(std::vector<double> values);

  size_t count() const { return sorted_.size(); }
  double mean() const { return mean_; }
  double deviation() const { return deviation_; }
  double minimum() const { return sorted_.empty() ? 0 : sorted_.front(); }
  double maximum() const { return sorted_.empty() ? 0 : sorted_.back(); }
  double median() const { return percentile(50); }
  double percentile(double p) const;  // p in [0, 100]
  const std::vector<double>& sorted() const { return sorted_; }

 private:
  std::vector<double> sorted_;
  double mean_ = 0;
  double deviation_ = 0;
};

// Figures of the requests that succeeded, in seconds and tokens.
struct RunSamples {
  Sample ttft, tpot, itl, latency, queue_time;
  Sample latency_with_queue;
  Sample output_per_user;      // output tokens / latency
  Sample generation_per_user;  // output tokens after the first / (latency - ttft)
  int64_t completed = 0;
  int64_t failed = 0;
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  int64_t cached_tokens = 0;
};
RunSamples samples_of(const std::vector<RequestRecord>& records);

// Output tokens of each second since the first request that succeeded was sent; a chunk counts as its share of the request's tokens.
std::vector<double> tokens_by_second(const std::vector<RequestRecord>& records);
// Most requests at once, by start and end.
int64_t peak_concurrency(const std::vector<RequestRecord>& records);

// Service level objectives in milliseconds; negative: none.
struct Objectives {
  double ttft_ms = -1;
  double tpot_ms = -1;
  double e2el_ms = -1;
  bool any() const { return ttft_ms >= 0 || tpot_ms >= 0 || e2el_ms >= 0; }
};
// Requests that succeeded and meet all objectives.
int64_t count_good(const std::vector<RequestRecord>& records, const Objectives& objectives);

}  // namespace shoal::bench
