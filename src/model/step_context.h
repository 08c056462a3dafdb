// SPDX-License-Identifier: Apache-2.0
// What a layer needs besides its weights to compute one step on one rank.
#pragma once

#include "backend/ops.h"
#include "comm/group.h"
#include "model/context_rows.h"
#include "model/step.h"

namespace shoal {

struct StepContext {
  Backend& backend;
  const StepPlan& plan;
  const Batch& batch;  // plan.groups[this rank's attn_dp]
  const RopeTable& rope;
  Group<Axis::kAttn> attn;
  Group<Axis::kCp> cp;
  Group<Axis::kFfnTp> ffn_tp;
  Group<Axis::kMoe> moe;
  bool deterministic = false;
  const ContextStep* context = nullptr;  // null without context parallelism
  bool dry = false;                      // only memory is taken (model/step_memory.h)

  int64_t tokens() const { return static_cast<int64_t>(batch.tokens.size()); }
};

}  // namespace shoal
