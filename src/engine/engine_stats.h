// SPDX-License-Identifier: Apache-2.0
// What the engine tells about its work, all of it counted since the start unless said otherwise. Values only; Engine::stats() fills them
// in without waiting for a step.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cache/kv_cache.h"
#include "parallel/mesh.h"

namespace shoal {

// Upper bounds, inclusive, by which steps are counted by their size; the last class has none.
inline constexpr std::array<int64_t, 13> kStepTokenBounds{1,   8,    16,   32,   64,   128,  256,
                                                          512, 1024, 2048, 4096, 8192, 16384};

// A step with prompt rows counts as prompt time, any other as generation time.
struct StepStats {
  int64_t steps = 0;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;                                  // inputs of generation-only steps
  int64_t tokens = 0;                                            // rows of all steps
  std::array<int64_t, kStepTokenBounds.size() + 1> by_tokens{};  // steps by their rows
  double prompt_seconds = 0;
  double generation_seconds = 0;
  double planning_seconds = 0;  // of the thread that plans: the scheduler, and what ends a step
  double output_seconds = 0;    // of the same thread, after it has planned: text and callbacks
  double sampling_seconds = 0;  // of the ranks that sample
};

// Pages of the KV cache, over all pools, attention-DP groups and context-parallel ranks.
struct CacheUse {
  int64_t total_pages = 0;
  int64_t used_pages = 0;    // by requests that run
  int64_t cached_pages = 0;  // kept for requests to come
  int64_t preemptions = 0;
  KvCacheStats stats;
};

// Requests now.
struct RequestCounts {
  int64_t running = 0;
  int64_t waiting = 0;
};

// Where a rank's time went while there were steps to run (the four add up to it), and what it did.
struct RankStats {
  int rank = 0;
  Coordinates at{};
  int64_t steps = 0;
  double compute_seconds = 0;
  double communication_seconds = 0;   // in collectives, waiting for slower ranks included
  double stage_seconds = 0;           // waiting for the previous stage's output, or handing it on
  double idle_seconds = 0;            // waiting for the next step to be planned, or for tokens that it needs
  int64_t tokens = 0;                 // rows of its attention-DP group in its steps
  std::vector<int64_t> sent_bytes{};  // to each rank of the world
  double last_step_age_seconds = 0;   // since it ended a step, or started
  double in_step_seconds = 0;         // since it began the step that it is in; 0: in none
  bool waiting = false;               // in an operation with other ranks
  bool failed = false;                // the first that did

  double busy_seconds() const { return compute_seconds + communication_seconds; }
  // Share of the time in which the rank had nothing to work on: the pipeline's bubble, and the gaps between steps.
  double bubble() const {
    const double all = busy_seconds() + stage_seconds + idle_seconds;
    return all > 0 ? (stage_seconds + idle_seconds) / all : 0.0;
  }
};

struct EngineStats {
  StepStats steps;
  CacheUse cache;
  RequestCounts requests;
  std::vector<RankStats> ranks;  // by rank of the world
};

}  // namespace shoal
