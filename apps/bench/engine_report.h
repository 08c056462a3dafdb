// SPDX-License-Identifier: Apache-2.0
// The report of an offline run: trtllm-bench's sections and keys, and behind them what only this engine knows: where each rank's time
// went, the cache, the balance of experts, the machine. The console shows the same figures.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/bench/dataset.h"
#include "apps/bench/offline.h"
#include "apps/bench/statistics.h"

namespace shoal::bench {

struct OfflineReport {
  std::string command;  // "throughput" or "latency"
  std::string model_path;
  int64_t concurrency = 0;
  bool ignore_eos = true;
  const BenchDataset& data;
  const OfflineRun& run;
};

nlohmann::ordered_json engine_report(const Engine& engine, const OfflineReport& report);
// As lines of text.
std::string engine_report_text(const nlohmann::ordered_json& report);
// What a reader must know before believing the figures.
std::vector<std::string> offline_warnings(const OfflineReport& report, const RunSamples& samples);

}  // namespace shoal::bench
