// SPDX-License-Identifier: Apache-2.0
#include "server/monitor.h"

#include <fmt/format.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "server/advice.h"
#include "server/errors.h"
#include "server/host_events.h"
#include "server/metrics_text.h"
#include "server/sample.h"
#include "server/sample_events.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr auto kInterval = std::chrono::seconds(1);
constexpr size_t kAdviceSamples = 10;

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// What is left of an engine that is gone: nothing runs, nothing is in use.
EngineReading last_words(EngineReading reading) {
  reading.stats.requests = {};
  reading.stats.cache.used_pages = 0;
  for (RankStats& rank : reading.stats.ranks) rank.in_step_seconds = 0;
  return reading;
}

}  // namespace

struct Monitor::State {
  State(EngineHost& its_host, const ServerMetrics& its_metrics, MonitorSettings its_settings)
      : host(its_host), metrics(its_metrics), settings(std::move(its_settings)) {}

  ServerStatus server_status() const;
  std::shared_ptr<const EngineReading> read();
  Sample sample();
  void run();
  void tick(Sample now);

  EngineHost& host;
  const ServerMetrics& metrics;
  const MonitorSettings settings;
  const Clock::time_point begin = Clock::now();
  History history;
  HostEvents host_events;

  mutable std::mutex mutex;  // for what follows
  std::condition_variable wake;
  bool stopping = false;
  bool changed = false;  // the host's state: a static is due
  std::string advice_now;
  std::shared_ptr<const EngineReading> last;  // of an engine that may be gone

  std::deque<Sample> samples;  // the thread's: the last ones
  SampleEvents sample_events;  // the thread's
  std::thread thread;
};

ServerStatus Monitor::State::server_status() const {
  const HostStatus status = host.status();
  ServerStatus server{.model = settings.model,
                      .version = settings.version,
                      .state = host_state_name(status.state),
                      .advice = {},
                      .uptime_seconds = std::chrono::duration<double>(Clock::now() - begin).count(),
                      .oldest_waiting_seconds = metrics.oldest_waiting_seconds(),
                      .progress = status.progress(),
                      .failed_rank = {},
                      .stall_seconds = settings.stall_seconds};
  if (status.state == HostState::kFailed || status.state == HostState::kLoading)
    server.failed_rank = rank_of_failure(status.failure);
  const std::lock_guard lock(mutex);
  server.advice = advice_now;
  return server;
}

std::shared_ptr<const EngineReading> Monitor::State::read() {
  if (const std::shared_ptr<Engine> engine = host.engine()) {
    auto reading = std::make_shared<const EngineReading>(read_engine(*engine));
    const std::lock_guard lock(mutex);
    last = reading;
    return reading;
  }
  const std::lock_guard lock(mutex);
  return last ? std::make_shared<const EngineReading>(last_words(*last)) : nullptr;
}

Sample Monitor::State::sample() {
  return {.time = unix_seconds(),
          .server = server_status(),
          .counts = metrics.counts(),
          .latencies = read_latencies(metrics),
          .engine = read()};
}

void Monitor::State::tick(Sample now) {
  if (!samples.empty()) {
    for (const Event& event : sample_events.between(samples.back(), now)) history.add_event(event);
    history.add_point(point_json(samples.back(), now, metrics.fine_total().bounds()));
    std::string text = advice(samples.front(), now);
    const std::lock_guard lock(mutex);
    advice_now = std::move(text);
  }
  samples.push_back(std::move(now));
  if (samples.size() > kAdviceSamples) samples.pop_front();
}

void Monitor::State::run() {
  Clock::time_point next = Clock::now();
  while (true) {
    bool is_static = false;
    {
      std::unique_lock lock(mutex);
      wake.wait_until(lock, next, [this] { return stopping || changed; });
      if (stopping) return;
      is_static = std::exchange(changed, false);
    }
    if (is_static) {
      const auto engine = read();
      history.tell_static(ranks_json(server_status(), engine.get()));
      continue;
    }
    tick(sample());
    next = std::max(next + kInterval, Clock::now());
  }
}

Monitor::Monitor(EngineHost& host, const ServerMetrics& metrics, MonitorSettings settings)
    : state_(std::make_shared<State>(host, metrics, std::move(settings))) {
  host.listen([state = state_](const HostStatus& status) {
    const std::optional<Event> event = state->host_events.next(status, unix_seconds());
    if (!event) return;
    state->history.add_event(*event);
    const std::lock_guard lock(state->mutex);
    state->changed = true;
    state->wake.notify_one();
  });
}

Monitor::~Monitor() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->wake.notify_one();
  }
  if (state_->thread.joinable()) state_->thread.join();
}

void Monitor::start() {
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

std::string Monitor::metrics_text() const {
  const std::shared_ptr<const EngineReading> engine = state_->read();
  return shoal::metrics_text(state_->metrics, state_->server_status(), engine.get());
}

Json Monitor::ranks() const {
  const std::shared_ptr<const EngineReading> engine = state_->read();
  return ranks_json(state_->server_status(), engine.get());
}

Json Monitor::experts() const { return experts_json(state_->read().get()); }

History& Monitor::history() const { return state_->history; }

void Monitor::add_routes(RouteTable& routes) const {
  routes.get("/metrics", Access::kApi, answer([this](const HttpRequest&) {
               HttpReply reply;
               reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
               reply.body = metrics_text();
               return reply;
             }),
             RunOn::kWorker);
  routes.get("/v1/ranks", Access::kApi, answer([this](const HttpRequest&) { return json_reply(ranks()); }),
             RunOn::kWorker);
  routes.get("/v1/experts", Access::kApi, answer([this](const HttpRequest&) { return json_reply(experts()); }),
             RunOn::kWorker);
  routes.get(
      "/v1/events", Access::kApi,
      [this](const std::shared_ptr<Exchange>& exchange) {
        // Asked before the stream begins: afterwards the status is sent.
        if (history().watchers() < History::kWatchers) {
          EventStream& stream = exchange->stream({{"cache-control", "no-store"}});
          const bool watches = history().watch(
              ranks(), {.send = [exchange, &stream](const std::string& frame) { return stream.send(frame); },
                        .gone = [exchange] { return exchange->closed(); }});
          if (!watches) stream.close();
          return;
        }
        ApiError error(503, "too_many_watchers",
                       fmt::format("{} clients watch already, the most that may", History::kWatchers));
        error.hint = "close another dashboard, or poll GET /v1/ranks and GET /metrics";
        error.retry_after = 5;
        throw error;
      },
      RunOn::kWorker);
}

}  // namespace shoal
