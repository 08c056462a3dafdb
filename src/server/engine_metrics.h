// SPDX-License-Identifier: Apache-2.0
// Our own metrics of the engine (shoal_*): layout, ranks, KV pages, MoE layers, experts that move. Counters begin anew when the world restarts.
#pragma once

#include "server/metric_page.h"
#include "server/status.h"

namespace shoal {

void add_engine_metrics(MetricPage& page, const ServerStatus& server, const EngineReading& engine);

}  // namespace shoal
