// SPDX-License-Identifier: Apache-2.0
// Sample: all that the server knows about itself at one moment, as counters since the start; what happened between two of them is a point of
// the history. Pure functions of values.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <vector>

#include "server/metrics.h"
#include "server/status.h"

namespace shoal {

struct Latencies {
  std::vector<int64_t> first_token, between_tokens, total;  // by ServerMetrics's fine classes
};

struct Sample {
  double time = 0;  // seconds since 1970
  ServerStatus server;
  ServerMetrics::Counts counts;
  Latencies latencies;
  std::shared_ptr<const EngineReading> engine;  // null: there is none
};

Latencies read_latencies(const ServerMetrics& metrics);

// Seconds below which `share` of the values lie, within a class of `bounds` as if they were spread evenly; absent without values.
std::optional<double> percentile(const std::vector<double>& bounds, const std::vector<int64_t>& counts, double share);

// Shares of the time from `before` to `now`; what is left of 1, there was nothing to run.
struct RankShares {
  double compute = 0, communication = 0, stage = 0, idle = 0;
  double tokens_per_second = 0;
};
// By rank; zeros where the engine is another one or there is none.
std::vector<RankShares> rank_shares(const Sample& before, const Sample& now);

// One point of GET /v1/events. `bounds`: the latencies'.
nlohmann::ordered_json point_json(const Sample& before, const Sample& now, const std::vector<double>& bounds);

}  // namespace shoal
