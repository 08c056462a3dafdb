// SPDX-License-Identifier: Apache-2.0
// What a benchmark keeps of each request, offline or over HTTP. Times are seconds since the run began; the definitions of the figures
// are those of docs/benchmarking.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace shoal::bench {

struct RequestRecord {
  double queued_s = 0;           // due; it may have waited for --max-concurrency
  double start_s = 0;            // sent
  std::vector<double> pieces_s;  // when each piece of output came: a token, or a chunk of a stream
  double end_s = 0;              // the last piece, or the failure
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, that came from the prefix cache
  bool ok = false;
  std::string error;                 // why not ok
  std::string text;                  // generated
  std::vector<int32_t> token_ids{};  // generated, where they are known

  double latency() const { return end_s - start_s; }
  double queue_time() const { return start_s - queued_s; }
  double ttft() const { return pieces_s.empty() ? 0 : pieces_s.front() - start_s; }
  // Time per output token after the first; 0 for a single one.
  double tpot() const { return output_tokens > 1 ? (latency() - ttft()) / static_cast<double>(output_tokens - 1) : 0; }
};

// Requests in the engine or at the server, and the cache's use, at one moment of a run.
struct LoadPoint {
  double at_s = 0;
  int64_t running = 0;
  int64_t waiting = 0;
  double kv_used = 0;  // share of the pages
};

}  // namespace shoal::bench
