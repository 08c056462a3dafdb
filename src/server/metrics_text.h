// SPDX-License-Identifier: Apache-2.0
// The text of GET /metrics, in Prometheus's format: vLLM's names (vllm:*), so that dashboards made for it work, with its units and buckets;
// ours (shoal_*) by rank and MoE layer; http_* and process_*. Values are sums over replicas and attention-DP groups: vLLM's `engine` label is
// always "0". Made from values that are read without waiting for a step.
// Not here: matrices of layer x expert (GET /v1/experts).
#pragma once

#include <string>

#include "server/metrics.h"
#include "server/status.h"

namespace shoal {

// `engine`: null before there is one, and after it failed; its metrics are then absent but for shoal_state.
std::string metrics_text(const ServerMetrics& metrics, const ServerStatus& server, const EngineReading* engine);

}  // namespace shoal
