// SPDX-License-Identifier: Apache-2.0
// StepPlan: one forward pass, decided once by the scheduler and handed unchanged to every rank of a replica.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/specs.h"

namespace shoal {

// One attention-DP group's share of a step; may be empty (its ranks still take part in MoE).
struct Batch {
  std::vector<int32_t> tokens;      // [tokens] input ids; sequences one after the other
  std::vector<int32_t> positions;   // [tokens]
  std::vector<int32_t> kv_slots;    // [tokens] page * tokens_per_block + offset where the token's K and V go
  std::vector<SequenceSpan> spans;  // cover all rows, in order
  std::vector<int32_t> logit_rows;  // rows whose logits are wanted, ascending
};

struct ExpertStep;  // model/expert_moves.h

struct StepPlan {
  int64_t step = 0;
  std::vector<Batch> groups;                  // by attn_dp index
  std::shared_ptr<const ExpertStep> experts;  // layers that change their placement, and copies; null: none
};

}  // namespace shoal
