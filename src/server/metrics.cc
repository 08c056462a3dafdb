// SPDX-License-Identifier: Apache-2.0
#include "server/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace shoal {
namespace {

constexpr double kLastBucket = 1e7;  // of a request

const std::vector<double> kFirstTokenSeconds{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
                                             1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
const std::vector<double> kTokenSeconds{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
                                        0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
const std::vector<double> kRequestSeconds{0.3,  0.5,  0.8,  1.0,  1.5,   2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
                                          30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
const std::vector<double> kChoices{1, 2, 5, 10, 20};
const std::vector<double> kHttpSeconds{0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0};

constexpr std::array<std::string_view, 7> kMethods{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

// 1, 2, 5, 10, ...
std::vector<double> token_counts() {
  std::vector<double> bounds;
  for (double power = 1; power <= kLastBucket; power *= 10)
    for (const double mantissa : {1.0, 2.0, 5.0}) bounds.push_back(mantissa * power);
  return bounds;
}

// From 10 us to over an hour, 5 % apart.
std::vector<double> fine_seconds() {
  std::vector<double> bounds;
  for (double bound = 1e-5; bound < 5e3; bound *= 1.05) bounds.push_back(bound);
  return bounds;
}

double seconds(ServerMetrics::Clock::duration time) { return std::chrono::duration<double>(time).count(); }

const char* reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "abort";
    default:
      return "error";
  }
}

template <typename Map>
void count(Map& map, std::string_view key) {
  const auto found = map.find(key);
  if (found == map.end()) {
    map.emplace(key, 1);
  } else {
    ++found->second;
  }
}

}  // namespace

RequestDistributions::RequestDistributions()
    : time_to_first_token(kFirstTokenSeconds),
      inter_token(kTokenSeconds),
      time_per_output_token(kTokenSeconds),
      total(kRequestSeconds),
      queue(kRequestSeconds),
      prefill(kRequestSeconds),
      decode(kRequestSeconds),
      inference(kRequestSeconds),
      prompt_tokens(token_counts()),
      generated_tokens(token_counts()),
      max_tokens(token_counts()),
      most_tokens_asked(token_counts()),
      choices(kChoices) {}

// Reasons are there from the start, so that rates are known when the first one comes.
ServerMetrics::ServerMetrics()
    : fine_first_(fine_seconds()),
      fine_between_(fine_seconds()),
      fine_total_(fine_seconds()),
      finished_{{"stop", 0}, {"length", 0}, {"abort", 0}, {"error", 0}},
      refused_{{"queue_full", 0}, {"draining", 0}, {"loading", 0}, {"rank_lost", 0}} {}

void ServerMetrics::accepted(int64_t choices, int64_t max_tokens) {
  requests_.choices.add(static_cast<double>(choices));
  requests_.most_tokens_asked.add(static_cast<double>(max_tokens));
}

void ServerMetrics::refused(std::string_view reason) {
  const std::lock_guard lock(mutex_);
  count(refused_, reason);
}

void ServerMetrics::http_request(std::string_view method, std::string_view route, int status, double elapsed) {
  const bool known = std::find(kMethods.begin(), kMethods.end(), method) != kMethods.end();
  const std::string shown_method(known ? method : "other"), shown_route(route.empty() ? "none" : route);
  const std::lock_guard lock(mutex_);
  ++http_[{shown_method, shown_route, status}];
  auto& distribution = http_seconds_[{shown_method, shown_route}];
  if (!distribution) distribution = std::make_unique<Distribution>(kHttpSeconds);
  distribution->add(elapsed);
}

int64_t ServerMetrics::waiting() const {
  const std::lock_guard lock(mutex_);
  return std::ssize(waiting_);
}

double ServerMetrics::oldest_waiting_seconds() const {
  const std::lock_guard lock(mutex_);
  return waiting_.empty() ? 0.0 : std::max(0.0, seconds(Clock::now() - *waiting_.begin()));
}

ServerMetrics::Counts ServerMetrics::counts() const {
  const std::lock_guard lock(mutex_);
  return {.prompt_tokens = prompt_tokens_,
          .cached_tokens = cached_tokens_,
          .generated_tokens = generated_tokens_,
          .finished = {finished_.begin(), finished_.end()},
          .refused = {refused_.begin(), refused_.end()},
          .http = http_};
}

std::vector<std::pair<std::pair<std::string, std::string>, const Distribution*>> ServerMetrics::http_seconds() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<std::pair<std::string, std::string>, const Distribution*>> result;
  for (const auto& [key, distribution] : http_seconds_) result.emplace_back(key, distribution.get());
  return result;
}

RequestMeter::RequestMeter(ServerMetrics& metrics, int64_t prompt_tokens, int64_t max_tokens, Clock::time_point arrived)
    : metrics_(metrics), prompt_tokens_(prompt_tokens), max_tokens_(max_tokens), arrived_(arrived) {
  ++metrics_.unfinished_;
  const std::lock_guard lock(metrics_.mutex_);
  metrics_.waiting_.insert(arrived_);
}

RequestMeter::~RequestMeter() {
  if (!has_ended_) finished(FinishReason::kError, 0);
}

void RequestMeter::leave_queue() {
  const std::lock_guard lock(metrics_.mutex_);
  metrics_.waiting_.erase(metrics_.waiting_.find(arrived_));
}

void RequestMeter::started(Clock::time_point now) {
  if (has_started_ || has_ended_) return;
  has_started_ = true;
  started_ = now;
  leave_queue();
}

void RequestMeter::token(Clock::time_point now) {
  started(now);  // where nobody said so
  RequestDistributions& requests = metrics_.requests_;
  if (++tokens_ == 1) {
    first_token_ = now;
    metrics_.prompt_tokens_ += prompt_tokens_;
    requests.time_to_first_token.add(seconds(now - arrived_));
    metrics_.fine_first_.add(seconds(now - arrived_));
  } else {
    requests.inter_token.add(seconds(now - last_token_));
    metrics_.fine_between_.add(seconds(now - last_token_));
  }
  ++metrics_.generated_tokens_;
  last_token_ = now;
}

void RequestMeter::finished(FinishReason reason, int64_t cached_tokens, Clock::time_point now) {
  if (has_ended_) return;
  if (!has_started_) leave_queue();
  has_ended_ = true;
  ended_ = now;
  metrics_.cached_tokens_ += cached_tokens;
  --metrics_.unfinished_;
  count_end(now);
  const std::lock_guard lock(metrics_.mutex_);
  count(metrics_.finished_, reason_name(reason));
}

// A phase that the request did not reach is not counted: it would pull the others' distribution to 0.
void RequestMeter::count_end(Clock::time_point now) {
  RequestDistributions& requests = metrics_.requests_;
  const RequestTimings times = timings(now);
  requests.total.add(times.total);
  metrics_.fine_total_.add(times.total);
  requests.queue.add(times.queue);
  requests.prompt_tokens.add(static_cast<double>(prompt_tokens_));
  requests.generated_tokens.add(static_cast<double>(tokens_));
  requests.max_tokens.add(static_cast<double>(max_tokens_));
  if (!has_started_) return;
  requests.inference.add(seconds(now - started_));
  if (tokens_ == 0) return;
  requests.prefill.add(times.prefill);
  requests.decode.add(times.decode);
  if (tokens_ > 1) requests.time_per_output_token.add(times.decode / static_cast<double>(tokens_ - 1));
}

RequestTimings RequestMeter::timings(Clock::time_point now) const {
  const Clock::time_point end = has_ended_ ? ended_ : now;
  RequestTimings times{.queue = seconds((has_started_ ? started_ : end) - arrived_), .total = seconds(end - arrived_)};
  if (has_started_) times.prefill = seconds((tokens_ > 0 ? first_token_ : end) - started_);
  if (tokens_ > 0) times.decode = seconds(last_token_ - first_token_);
  return times;
}

}  // namespace shoal
