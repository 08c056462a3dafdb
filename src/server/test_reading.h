// SPDX-License-Identifier: Apache-2.0
// A made-up engine of four ranks (tp4·ep4·adp4, two MoE layers) for the tests of what is told about it.
#pragma once

#include <memory>

#include "server/sample.h"

namespace shoal {

inline EngineReading four_ranks() {
  EngineReading reading;
  reading.facts = {.layout = "tp4·ep4·adp4",
                   .sizes = {.tensor = 4, .attention_data = 4, .moe_expert = 4},
                   .dtype = "bfloat16",
                   .kv_dtype = "float32",
                   .backend = "cpu/avx2",
                   .max_seq_len = 1000,
                   .tokens_per_page = 32,
                   .threads_per_rank = 2,
                   .experts = 4,
                   .top_k = 2,
                   .ranks = {}};
  const Mesh mesh(reading.facts.sizes);
  for (int rank = 0; rank < 4; ++rank) {
    reading.facts.ranks.push_back({.at = mesh.at(rank),
                                   .layers = {0, 8},
                                   .heads = 4,
                                   .kv_heads = 1,
                                   .slots_per_layer = 2,
                                   .weight_bytes = 1000,
                                   .expert_bytes = 600,
                                   .kv_bytes = 300,
                                   .activation_bytes = 50});
    reading.stats.ranks.push_back({.rank = rank, .at = mesh.at(rank), .sent_bytes = {1, 2, 3, 4}});
  }
  ExpertStatus experts;
  experts.slots = {{1, {0, 1, 1, -1, 2, 2, 3, 3}}, {2, {0, 1, 1, -1, 2, 2, 3, 3}}};
  experts.by_ep_rank = {{1, {10, 10, 10, 10}}, {2, {30, 10, 0, 0}}};
  experts.by_expert = {{1, {5, 15, 10, 10}}, {2, {25, 15, 0, 0}}};
  experts.picks_by_ep_rank = {{1, {100, 200, 300, 400}}, {2, {1, 2, 3, 4}}};
  experts.plans = 7;
  experts.moves = {.layers = 2, .given_up = 1, .copies = 5, .bytes = 4096};
  experts.online = true;
  reading.experts = {experts};
  return reading;
}

inline Sample sample_at(double time, EngineReading reading) {
  Sample sample;
  sample.time = time;
  sample.server.state = "ready";
  sample.engine = std::make_shared<EngineReading>(std::move(reading));
  return sample;
}

// The same with each rank's time at work.
inline EngineReading working(const RankStats& each) {
  EngineReading reading = four_ranks();
  for (RankStats& rank : reading.stats.ranks) {
    rank.compute_seconds = each.compute_seconds;
    rank.communication_seconds = each.communication_seconds;
    rank.stage_seconds = each.stage_seconds;
    rank.idle_seconds = each.idle_seconds;
  }
  reading.stats.requests = {.running = 4, .waiting = 0};
  reading.experts.front().by_ep_rank = {{1, {10, 10, 10, 10}}};
  return reading;
}

}  // namespace shoal
