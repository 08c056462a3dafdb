// SPDX-License-Identifier: Apache-2.0
// How many KV pages each attention-DP group gets, from the config and the memory that weights and one step leave. Pure.
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
  int64_t max_seq_len = 0;
  int64_t available_bytes = 0;
  std::string memory_limit;  // whose limit that is
};

// The same number for every rank: what the rank with the least room can hold. Error with the numbers if that is not one page.
int64_t kv_pages(const KvBudgetInput& input);

// Such as "1.5 GiB".
std::string format_bytes(double bytes);

}  // namespace shoal
