// SPDX-License-Identifier: Apache-2.0
// Faults on purpose, to see what clients and operators see: "rank=3,step=100,kill" ends that rank at its 100th step, "rank=3,step=100,stall=2s"
// holds it up. Each fault happens once, also over engines that are built anew.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/stage_model.h"

namespace shoal {

struct FaultPlan {
  int rank = 0;
  int64_t step = 1;          // of the rank, from 1
  double stall_seconds = 0;  // 0: the rank fails
};

// Error if the text is no such plan.
FaultPlan parse_fault(const std::string& text);

// For EngineHooks::wrap_model.
std::function<std::unique_ptr<StageModel>(int, std::unique_ptr<StageModel>)> inject(
    const std::vector<FaultPlan>& plans);

}  // namespace shoal
