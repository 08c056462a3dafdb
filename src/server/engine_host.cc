// SPDX-License-Identifier: Apache-2.0
#include "server/engine_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace shoal {

using Clock = std::chrono::steady_clock;

const char* host_state_name(HostState state) {
  switch (state) {
    case HostState::kLoading:
      return "loading";
    case HostState::kReady:
      return "ready";
    case HostState::kDraining:
      return "draining";
    case HostState::kFailed:
      break;
  }
  return "failed";
}

// An engine that is let go of on one of its own threads must not be destroyed there.
class EngineHost::Owner : public std::enable_shared_from_this<EngineHost::Owner> {
 public:
  std::shared_ptr<Engine> share(std::unique_ptr<Engine> engine) {
    return {engine.release(), [self = shared_from_this()](Engine* returned) {
              const std::lock_guard lock(self->mutex_);
              self->returned_.reset(returned);
              self->changed_.notify_all();
            }};
  }
  void wait_and_destroy() {
    std::unique_ptr<Engine> engine;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return returned_ != nullptr; });
      engine = std::move(returned_);
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unique_ptr<Engine> returned_;
};

EngineHost::EngineHost(EngineFactory factory, HostSettings settings, std::function<void(std::exception_ptr)> on_end)
    : factory_(std::move(factory)),
      settings_(settings),
      on_end_(std::move(on_end)),
      owner_(std::make_shared<Owner>()) {}

EngineHost::~EngineHost() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void EngineHost::listen(Listener listener) { listeners_.push_back(std::move(listener)); }
void EngineHost::start() {
  thread_ = std::thread([this] { run(); });
}

std::shared_ptr<Engine> EngineHost::engine() const {
  const std::lock_guard lock(mutex_);
  return engine_;
}

HostStatus EngineHost::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void EngineHost::drain() {
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
    changed_.notify_all();
  }
  change([](HostStatus& status) { status.state = HostState::kDraining; });
}

void EngineHost::change(const std::function<void(HostStatus&)>& edit) {
  HostStatus status;
  {
    const std::lock_guard lock(mutex_);
    edit(status_);
    if (draining_) status_.state = HostState::kDraining;
    status = status_;
  }
  for (const Listener& listener : listeners_) listener(status);
}

EngineHooks EngineHost::hooks() {
  EngineHooks hooks;
  hooks.on_load = [this](int64_t done, int64_t total) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) throw EngineFailure("the server was stopped while it loaded the model");
    }
    change([&](HostStatus& status) {
      status.loaded_bytes = done;
      status.total_bytes = total;
    });
  };
  hooks.on_failed = [this](const std::string& reason) {
    const std::lock_guard lock(mutex_);
    engine_failed_ = true;
    status_.failure = reason;
    status_.state = draining_ ? HostState::kDraining : HostState::kFailed;
    changed_.notify_all();
  };
  return hooks;
}

// --- on the host's thread

void EngineHost::run() {
  int failures = 0;
  for (bool first = true;; first = false) {
    std::exception_ptr cause;
    const auto begin = Clock::now();
    try {
      if (!build()) return;
      serve();
      take_back();
      if (std::chrono::duration<double>(Clock::now() - begin).count() > settings_.good_seconds) failures = 0;
    } catch (...) {
      cause = std::current_exception();
      change([&](HostStatus& status) {
        status.state = HostState::kFailed;
        try {
          std::rethrow_exception(cause);
        } catch (const std::exception& error) {
          status.failure = error.what();
        }
      });
      if (first) return on_end_(cause);
    }
    {
      const std::lock_guard lock(mutex_);
      if (stopping_ || draining_) return;
    }
    if (++failures > settings_.most_failures) {
      if (!cause) cause = std::make_exception_ptr(EngineFailure(status().failure));
      return on_end_(cause);
    }
    if (!pause(std::min(settings_.longest_pause_seconds, settings_.first_pause_seconds * std::exp2(failures - 1))))
      return;
    change([](HostStatus& status) { ++status.restarts; });
  }
}

// False: nobody wants one any more.
bool EngineHost::build() {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || draining_) return false;
    engine_failed_ = false;
  }
  change([](HostStatus& status) {
    status.state = HostState::kLoading;
    status.loaded_bytes = 0;
    status.stall.clear();
    status.stalled_rank.reset();
  });
  auto engine = owner_->share(factory_(hooks()));
  {
    const std::lock_guard lock(mutex_);
    engine_ = std::move(engine);
  }
  change([](HostStatus& status) { status.state = HostState::kReady; });
  return true;
}

// Until the engine has failed, or is not wanted any more.
void EngineHost::serve() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopping_ || engine_failed_; });
}

void EngineHost::take_back() {
  std::shared_ptr<Engine> released;
  bool failed = false;
  {
    const std::lock_guard lock(mutex_);
    released.swap(engine_);
    failed = engine_failed_;
  }
  released.reset();
  if (failed) change([](HostStatus& status) { status.state = HostState::kFailed; });
  owner_->wait_and_destroy();
}

// False: the host is to end.
bool EngineHost::pause(double seconds) {
  change([&](HostStatus& status) { status.retry_in_seconds = seconds; });
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return stopping_ || draining_; });
  return !stopping_ && !draining_;
}

void EngineHost::watch() {
  const auto engine = this->engine();
  if (!engine) return;
  const std::vector<RankStats> ranks = engine->stats().ranks;
  const RankStats* late = nullptr;
  for (const RankStats& rank : ranks) {
    if (rank.in_step_seconds <= settings_.stall_seconds) continue;
    // Who computes holds up those who wait for it; among equals, who began first.
    const bool worse = late == nullptr || (late->waiting && !rank.waiting) ||
                       (late->waiting == rank.waiting && rank.in_step_seconds > late->in_step_seconds);
    if (worse) late = &rank;
  }
  const std::string text =
      late == nullptr
          ? ""
          : fmt::format("rank {} (dp {}, stage {}, tp {}) has been {} for more than {:.0f} s", late->rank, late->at.dp,
                        late->at.pp, late->at.tp, late->waiting ? "waiting for other ranks" : "computing one step",
                        settings_.stall_seconds);
  const bool give_up = late != nullptr && late->in_step_seconds > settings_.abort_seconds;
  if (text != status().stall) {
    change([&](HostStatus& status) {
      status.stall = text;
      status.stalled_rank = late == nullptr ? std::nullopt : std::optional<int>(late->rank);
    });
  }
  if (give_up) engine->abort(text);
}

}  // namespace shoal
