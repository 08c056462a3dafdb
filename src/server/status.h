// SPDX-License-Identifier: Apache-2.0
// What the server tells about the engine: values read from it without waiting for a step, and the JSON of GET /v1/ranks and /v1/experts
// made of them. Everything but read_engine() is a pure function of values.
// max/mean: of one MoE layer, the picks that its busiest EP rank computed over the mean of the EP ranks; 1 is even. Over layers: the worst,
// and the mean.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"

namespace shoal {

struct RankFacts {
  Coordinates at;
  Range layers;
  int64_t heads = 0, kv_heads = 0;  // per layer
  int64_t slots_per_layer = 0;      // of a MoE layer
  int64_t weight_bytes = 0;         // experts included
  int64_t expert_bytes = 0;
  int64_t kv_bytes = 0;
  int64_t activation_bytes = 0;  // upper bound of one step's
};

// What does not change while an engine lives.
struct EngineFacts {
  std::string layout;  // "tp4·ep4·adp4"
  GridSizes sizes;
  std::string dtype, kv_dtype, backend;
  int64_t max_seq_len = 0, tokens_per_page = 0;
  int threads_per_rank = 1;
  bool prefix_reuse = true;
  int64_t experts = 0, top_k = 0;  // of a MoE layer; 0: a dense model
  std::vector<RankFacts> ranks;
};
EngineFacts engine_facts(const Engine& engine);

// One moment.
struct EngineReading {
  EngineFacts facts;
  EngineStats stats;
  std::vector<ExpertStatus> experts;  // by replica, their `steps` left out
};
EngineReading read_engine(const Engine& engine);

// Of the process.
struct ServerStatus {
  std::string model;
  std::string version;
  std::string state = "loading";  // loading, ready, draining, failed
  std::string advice;             // advice.h
  double uptime_seconds = 0;
  double oldest_waiting_seconds = 0;
  double progress = 0;             // of loading
  std::optional<int> failed_rank;  // whose failure ended the engine
  double stall_seconds = 30;       // in one step, not waiting for others: stalled
};

// `engine`: null before there is one; the last reading of one that is gone.
nlohmann::ordered_json ranks_json(const ServerStatus& server, const EngineReading* engine);
nlohmann::ordered_json experts_json(const EngineReading* engine);

std::string layout_text(const GridSizes& sizes, bool has_moe);
// "ok", "stalled" or "failed".
const char* rank_state(const RankStats& rank, double stall_seconds);
// "rank 3 (dp 0, stage 1, tp 1): ..." -> 3
std::optional<int> rank_of_failure(std::string_view text);

struct Imbalance {
  double worst = 1, mean = 1;
};
// 1 where nothing was computed.
double max_over_mean(const std::vector<double>& loads);
// Of recent loads, over the layers that have any; absent if none has.
std::optional<Imbalance> imbalance(const std::vector<ExpertStatus>& experts);

}  // namespace shoal
