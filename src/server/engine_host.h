// SPDX-License-Identifier: Apache-2.0
// EngineHost: owns the engine of a server. Its thread builds the engine, and builds a new one when a rank has failed, with growing pauses and
// a limit; the server answers meanwhile. States: loading -> ready -> (failed -> loading -> ready …) -> draining.
// Invariants: engines are made and destroyed on the host's thread only, whoever lets go of one last; there is never more than one.
// Not here: requests (api/), HTTP.
#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"

namespace shoal {

enum class HostState : uint8_t { kLoading, kReady, kDraining, kFailed };
const char* host_state_name(HostState state);

struct HostStatus {
  HostState state = HostState::kLoading;
  int64_t loaded_bytes = 0;
  int64_t total_bytes = 0;      // 0: not known yet
  std::string failure;          // the last one: rank, operation and cause; empty: none yet
  int restarts = 0;             // engines built after the first
  double retry_in_seconds = 0;  // kFailed: until the next attempt
  std::optional<int> stalled_rank;
  std::string stall;  // "rank 3 has been …"; empty: none

  double progress() const {
    return total_bytes > 0 ? static_cast<double>(loaded_bytes) / static_cast<double>(total_bytes) : 0.0;
  }
};

struct HostSettings {
  double stall_seconds = 60;   // a step that takes longer: not ready
  double abort_seconds = 300;  // one that takes longer still: the engine is given up and built anew
  double first_pause_seconds = 0.5;
  double longest_pause_seconds = 30;
  int most_failures = 5;  // in a row, each sooner than `good_seconds` after being ready
  double good_seconds = 60;
};

// Makes an engine with these hooks; whatever it throws is the attempt's failure.
using EngineFactory = std::function<std::unique_ptr<Engine>(const EngineHooks&)>;

class EngineHost {
 public:
  using Listener = std::function<void(const HostStatus&)>;
  // `on_end`: called on the host's thread when there will be no engine any more: the first could not be built, or too many failed.
  EngineHost(EngineFactory factory, HostSettings settings, std::function<void(std::exception_ptr)> on_end);
  ~EngineHost();

  // Before start(): called on the host's thread at each change of state, several times a second while loading, and on a watchdog's finding.
  void listen(Listener listener);
  void start();

  // From any thread. Null unless an engine serves (ready or draining). Keep it for the length of a call only: a new engine is not built
  // before the old one is gone.
  std::shared_ptr<Engine> engine() const;
  HostStatus status() const;
  // Ready turns into draining; new engines are not built any more.
  void drain();
  // Looks whether a rank has stalled; call it about every half second.
  void watch();

 private:
  class Owner;  // takes engines back
  void run();
  bool build();
  void serve();
  void take_back();
  bool pause(double seconds);
  void change(const std::function<void(HostStatus&)>& edit);
  EngineHooks hooks();

  const EngineFactory factory_;
  const HostSettings settings_;
  const std::function<void(std::exception_ptr)> on_end_;
  std::vector<Listener> listeners_;
  const std::shared_ptr<Owner> owner_;
  mutable std::mutex mutex_;  // for what follows
  std::condition_variable changed_;
  std::shared_ptr<Engine> engine_;
  HostStatus status_;
  bool engine_failed_ = false;
  bool stopping_ = false;
  bool draining_ = false;
  std::thread thread_;
};

}  // namespace shoal
