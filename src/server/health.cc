// SPDX-License-Identifier: Apache-2.0
#include "server/health.h"

#include <fmt/format.h>

#include "base/version.h"
#include "server/errors.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kLoadingRetry = 2;
constexpr double kDrainingRetry = 5;

Json status_json(const HostStatus& status) {
  Json body = {{"status", host_state_name(status.state)}};
  if (status.state == HostState::kLoading)
    body["progress"] = {
        {"loaded_bytes", status.loaded_bytes}, {"total_bytes", status.total_bytes}, {"value", status.progress()}};
  if (status.restarts > 0) body["restarts"] = status.restarts;
  if (!status.failure.empty()) body["last_failure"] = status.failure;
  if (status.stalled_rank) body["stalled_rank"] = *status.stalled_rank;
  return body;
}

HttpReply ready(const EngineHost& host) {
  const HostStatus status = host.status();
  auto problem = not_ready(status);
  if (!problem && status.stalled_rank) {
    problem.emplace(503, "rank_stalled", status.stall);
    problem->retry_after = kDrainingRetry;
  }
  if (!problem) return json_reply(status_json(status));
  HttpReply reply = error_reply(*problem, {});
  Json body = status_json(status);
  body["status"] = status.stalled_rank && status.state == HostState::kReady ? "stalled" : host_state_name(status.state);
  body.update(error_object(*problem, {}));
  reply.body = json_text(body);
  return reply;
}

}  // namespace

std::optional<ApiError> not_ready(const HostStatus& status) {
  std::optional<ApiError> error;
  switch (status.state) {
    case HostState::kReady:
      return {};
    case HostState::kLoading:
      error.emplace(503, "loading", fmt::format("the model is being loaded: {:.0f} %", 100 * status.progress()));
      error->more = {{"progress", status.progress()}};
      error->retry_after = kLoadingRetry;
      break;
    case HostState::kDraining:
      error.emplace(503, "draining", "the server is shutting down and takes no new requests");
      error->retry_after = kDrainingRetry;
      break;
    case HostState::kFailed:
      error.emplace(503, "rank_lost",
                    fmt::format("the engine has failed and is being built again: {}", status.failure));
      error->retry_after = kLoadingRetry;
      break;
  }
  return error;
}

void add_health_routes(RouteTable& routes, const EngineHost& host) {
  const auto live = answer([](const HttpRequest&) { return json_reply({{"status", "alive"}}); });
  const auto is_ready = answer([&host](const HttpRequest&) { return ready(host); });
  routes.get("/health/live", Access::kPublic, live);
  routes.get("/health/ready", Access::kPublic, is_ready);
  routes.get("/health", Access::kPublic, is_ready);
  routes.get("/v1/health", Access::kPublic, is_ready);
  routes.get("/version", Access::kApi, answer([](const HttpRequest&) { return json_reply({{"version", kVersion}}); }));
}

}  // namespace shoal
