// SPDX-License-Identifier: Apache-2.0
// Monitor: what operators see of a server: GET /metrics, /v1/ranks, /v1/experts and the event stream of GET /v1/events. A thread of its own
// takes a sample every second, whether anybody watches or not, and says what is new: states, failures, experts that moved, refusals.
// Invariants: no step waits for it; it holds the engine no longer than it takes to read it.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "server/engine_host.h"
#include "server/history.h"
#include "server/http/routes.h"
#include "server/metrics.h"

namespace shoal {

struct MonitorSettings {
  std::string model;  // as clients know it
  std::string version;
  double stall_seconds = 30;
};

class Monitor {
 public:
  // Listens to the host, which is not started yet. Host and metrics must outlive this; the host may call its listeners afterwards.
  Monitor(EngineHost& host, const ServerMetrics& metrics, MonitorSettings settings);
  ~Monitor();

  void start();
  // May be registered before start(); this must outlive their use.
  void add_routes(RouteTable& routes) const;

  std::string metrics_text() const;
  nlohmann::ordered_json ranks() const;
  nlohmann::ordered_json experts() const;
  History& history() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace shoal
