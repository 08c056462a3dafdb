// SPDX-License-Identifier: Apache-2.0
// The report of a run against a server: vLLM's keys, and behind them what helps to trust the figures.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/bench/serve_run.h"
#include "apps/bench/statistics.h"

namespace shoal::bench {

struct ServeReportOptions {
  std::vector<std::string> metrics = {"ttft", "tpot", "itl", "e2el"};
  std::vector<double> percentiles = {50, 90, 95, 99};
  Objectives goodput;
  double request_rate = 0;  // infinite: all at once
  int64_t max_concurrency = 0;
};

// Figures only: what was asked is the caller's to add.
nlohmann::ordered_json serve_report(const ServeRun& run, const ServeReportOptions& options);
// Each request's numbers, as --save-detailed keeps them.
nlohmann::ordered_json serve_details(const ServeRun& run);
std::string serve_report_text(const nlohmann::ordered_json& report, const ServeReportOptions& options);
// What a reader must know before believing the figures. `cached_share`: of prompt tokens.
std::vector<std::string> serve_warnings(const ServeRun& run, const RunSamples& samples);

// "p99_ttft_ms".
std::string percentile_key(double percentile, const std::string& metric);
bool is_metric(const std::string& name);

}  // namespace shoal::bench
