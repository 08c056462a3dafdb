// SPDX-License-Identifier: Apache-2.0
// ServerMetrics: what the server counts of its requests, all since the process started, over all layouts, replicas and restarts of the
// world. Every method is thread-safe; what is called for a token takes no lock.
// Not here: what the engine counts (engine/engine_stats.h), and the text of GET /metrics (metrics_text.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "engine/request.h"
#include "server/distribution.h"

namespace shoal {

// Of one request: seconds of each phase that it went through; 0 for one that it did not reach.
struct RequestTimings {
  double queue = 0;    // until its first step was planned
  double prefill = 0;  // from there to its first token
  double decode = 0;   // from there to its last token
  double total = 0;    // all of it, as the client sees it
};

// Distributions in vLLM's classes.
struct RequestDistributions {
  RequestDistributions();
  Distribution time_to_first_token, inter_token, time_per_output_token, total, queue, prefill, decode, inference;
  Distribution prompt_tokens, generated_tokens, max_tokens, most_tokens_asked, choices;
};

class ServerMetrics {
 public:
  using Clock = std::chrono::steady_clock;

  ServerMetrics();

  // A generation request was accepted: how many sequences of how many tokens it asks for.
  void accepted(int64_t choices, int64_t max_tokens);
  // A request was turned away before it reached the engine. `reason`: a short word, one of a few: queue_full, draining, loading, rank_lost.
  void refused(std::string_view reason);
  // An answer was sent to its end (a stream's is its last frame). `route`: the pattern, such as "/v1/requests/{id}", never the path; empty
  // for a path that there is not. Series are bounded whatever clients send: those count as "none", methods that nothing answers as "other".
  void http_request(std::string_view method, std::string_view route, int status, double seconds);

  // Requests that have not begun to run.
  int64_t waiting() const;
  double oldest_waiting_seconds() const;
  // Requests that have not ended.
  int64_t unfinished() const { return unfinished_; }

  struct Counts {
    int64_t prompt_tokens = 0;  // of requests whose first token has come, cached ones included
    int64_t cached_tokens = 0;  // of finished requests
    int64_t generated_tokens = 0;
    std::map<std::string, int64_t> finished;                    // by reason: stop, length, abort, error
    std::map<std::string, int64_t> refused;                     // by reason
    using HttpKey = std::tuple<std::string, std::string, int>;  // method, route, status
    std::map<HttpKey, int64_t> http;
  };
  Counts counts() const;
  const RequestDistributions& requests() const { return requests_; }
  // Seconds by (method, route).
  std::vector<std::pair<std::pair<std::string, std::string>, const Distribution*>> http_seconds() const;
  // The same latencies in classes fine enough for percentiles of a second's worth.
  const Distribution& fine_time_to_first_token() const { return fine_first_; }
  const Distribution& fine_inter_token() const { return fine_between_; }
  const Distribution& fine_total() const { return fine_total_; }

 private:
  friend class RequestMeter;

  RequestDistributions requests_;
  Distribution fine_first_, fine_between_, fine_total_;
  std::atomic<int64_t> prompt_tokens_{0}, cached_tokens_{0}, generated_tokens_{0}, unfinished_{0};
  mutable std::mutex mutex_;  // for what follows
  std::multiset<Clock::time_point> waiting_;
  std::map<std::string, int64_t, std::less<>> finished_, refused_;
  std::map<Counts::HttpKey, int64_t> http_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<Distribution>> http_seconds_;
};

// RequestMeter: one generated sequence on its way. Made when its request arrives; the engine's callbacks call the rest, in this order:
// started (RequestCallbacks::on_start), token (on_output) for each, finished (on_finish). One thread at a time; `metrics` must outlive it.
// Destroyed without `finished`, it counts as an error.
class RequestMeter {
 public:
  using Clock = ServerMetrics::Clock;

  RequestMeter(ServerMetrics& metrics, int64_t prompt_tokens, int64_t max_tokens,
               Clock::time_point arrived = Clock::now());
  ~RequestMeter();
  RequestMeter(const RequestMeter&) = delete;
  RequestMeter& operator=(const RequestMeter&) = delete;

  void started(Clock::time_point now = Clock::now());
  void token(Clock::time_point now = Clock::now());
  void finished(FinishReason reason, int64_t cached_tokens, Clock::time_point now = Clock::now());

  int64_t tokens() const { return tokens_; }
  // As of `now`, or of its end.
  RequestTimings timings(Clock::time_point now = Clock::now()) const;

 private:
  void leave_queue();
  void count_end(Clock::time_point now);

  ServerMetrics& metrics_;
  const int64_t prompt_tokens_, max_tokens_;
  const Clock::time_point arrived_;
  Clock::time_point started_, first_token_, last_token_, ended_;
  int64_t tokens_ = 0;
  bool has_started_ = false, has_ended_ = false;
};

}  // namespace shoal
