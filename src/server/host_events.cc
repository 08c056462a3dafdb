// SPDX-License-Identifier: Apache-2.0
#include "server/host_events.h"

#include <fmt/format.h>

#include <utility>

namespace shoal {
namespace {

Event of_state(const HostStatus& status, bool rank) {
  switch (status.state) {
    case HostState::kLoading:
      if (status.restarts == 0) return {.kind = "loading", .text = "the model is being loaded"};
      return {.kind = "restart", .text = fmt::format("the engine is being built again (restart {})", status.restarts)};
    case HostState::kReady:
      return {.kind = "ready", .text = "the engine takes requests"};
    case HostState::kDraining:
      return {.kind = "drain", .text = "no new requests are taken; those that run may end"};
    case HostState::kFailed:
      break;
  }
  return {.kind = rank ? "rank_failed" : "error",
          .text = status.failure.empty() ? "the engine has failed" : status.failure};
}

}  // namespace

std::optional<Event> HostEvents::next(const HostStatus& status, double time) {
  const std::lock_guard lock(mutex_);
  const std::optional<HostStatus> before = std::exchange(last_, status);
  std::optional<Event> event;
  if (!before || before->state != status.state) {
    event = of_state(status, status.failure.starts_with("rank "));
  } else if (!status.stall.empty() && before->stall.empty()) {
    event = Event{.kind = "error", .text = status.stall};
  }
  if (event) event->time = time;
  return event;
}

}  // namespace shoal
