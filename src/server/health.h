// SPDX-License-Identifier: Apache-2.0
// /health/live, /health/ready, /health and /version.
#pragma once

#include <optional>

#include "server/engine_host.h"
#include "server/errors.h"
#include "server/http/routes.h"

namespace shoal {

void add_health_routes(RouteTable& routes, const EngineHost& host);

// Why no request can be taken now, as the error to answer; nothing if one can.
std::optional<ApiError> not_ready(const HostStatus& status);

}  // namespace shoal
