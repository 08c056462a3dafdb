// SPDX-License-Identifier: Apache-2.0
// Sends a dataset's requests to a server when they are due and takes the times of what comes back. One thread.
// Not here: figures and reports (serve_report.h).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "apps/bench/http_client.h"
#include "apps/bench/record.h"

namespace shoal::bench {

struct ServeLoad {
  std::string endpoint;               // such as /v1/completions
  std::vector<std::string> bodies;    // one a request
  std::vector<double> due_s;          // ascending; one a request
  std::vector<int64_t> input_tokens;  // as far as known; the server's usage wins
  int64_t max_concurrency = 0;        // 0: no bound
  std::function<void(int64_t requests, int64_t tokens)> on_progress;
};

struct ServeRun {
  std::vector<RequestRecord> records;
  double seconds = 0;
  double cpu_seconds = 0;     // of this process
  double late_p99_s = 0;      // how long after they were due requests went out, for the client's own sake
  int64_t without_usage = 0;  // answers that did not tell their tokens
};
ServeRun run_load(HttpClient& client, const ServeLoad& load);

// A server's counters: the sum over labels of each metric of /metrics, by name.
std::map<std::string, double> parse_metrics(const std::string& text);

}  // namespace shoal::bench
