// SPDX-License-Identifier: Apache-2.0
// Runs requests through an engine in this process and times them: bench throughput and bench latency.
// Not here: how the figures are reported (engine_report.h).
#pragma once

#include <functional>
#include <vector>

#include "apps/bench/dataset.h"
#include "apps/bench/record.h"
#include "engine/engine.h"

namespace shoal::bench {

struct OfflineOptions {
  int64_t concurrency = 0;    // requests in the engine at most; 0: all
  std::vector<double> due_s;  // when each request is handed over; empty: as soon as concurrency allows
  SamplingParams sampling;    // max_tokens is each request's own
  std::string cache_salt;     // warm-up requests share no prefixes with the measured ones
  std::function<void(int64_t requests, int64_t tokens)> on_progress;  // done so far; on the running thread
};

// What the engine did between start and end; the counters' differences.
struct OfflineRun {
  std::vector<RequestRecord> records;  // in the order of the requests
  double seconds = 0;
  double cpu_seconds = 0;  // of the whole process
  EngineStats stats;
  ExpertLoads loads;
  std::vector<LoadPoint> load;
  int64_t peak_pages = 0;  // in use at once, as sampled
};

// Throws EngineFailure if a rank fails, Error if a request is wrong; no request is left in the engine either way.
OfflineRun run_offline(Engine& engine, const std::vector<BenchRequest>& requests, const OfflineOptions& options);

}  // namespace shoal::bench
