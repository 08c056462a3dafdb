// SPDX-License-Identifier: Apache-2.0
// How many KV pages of each pool each rank gets, from the config and the memory that weights and one step leave. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/engine_config.h"
#include "model/model.h"

namespace shoal {

struct KvBudgetInput {
  const std::vector<RankPlan>& plans;  // of all ranks on this machine
  const EngineConfig& config;
  std::vector<KvPoolKind> pools;  // of the model
  int64_t max_seq_len = 0;
  int64_t available_bytes = 0;
  std::string memory_limit;  // whose limit that is
};

struct KvSizes {
  std::vector<int64_t> pages;  // by pool, on each rank
  int64_t tokens = 0;          // that an attention-DP group holds, over its context-parallel ranks
};

// The same numbers for every rank: what the rank with the least room can hold. A pool that slides gets the part of the others' pages
// that sequences of kWindowsOfASequence windows keep, and enough for the longest step of one. Error with the numbers if there is not
// room for one page.
KvSizes kv_sizes(const KvBudgetInput& input);
constexpr int64_t kWindowsOfASequence = 8;

// What holds `tokens` of an attention-DP group, whatever the memory.
KvSizes kv_sizes_for(const KvBudgetInput& input, int64_t tokens);

// Such as "1.5 GiB".
std::string format_bytes(double bytes);

}  // namespace shoal
