// SPDX-License-Identifier: Apache-2.0
// StepPlan: one forward pass, decided once by the scheduler and handed unchanged to every rank of a replica.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/specs.h"
#include "cache/kv_pools.h"

namespace shoal {

// Where a batch's keys and values are, in the layers of one pool (cache/kv_pools.h; kv_pools() in model/spec.h).
struct KvBatch {
  std::vector<PageCopy> copies;  // done first, in this order
  std::vector<int32_t>
      slots;  // [tokens] page * tokens_per_block + offset where the token's K and V go, in the page ids of the
              // cp rank that owns the position's block
  std::vector<SequenceSpan> spans;  // cover all rows, in order; the same in every pool but for the pages
};

// One attention-DP group's share of a step; may be empty (its ranks still take part in MoE).
struct Batch {
  std::vector<int32_t> tokens;      // [tokens] input ids; sequences one after the other
  std::vector<int32_t> positions;   // [tokens]
  std::vector<KvBatch> kv;          // by pool
  std::vector<int32_t> logit_rows;  // rows whose logits are wanted, ascending
};

struct ExpertStep;  // model/expert_moves.h

struct StepPlan {
  int64_t step = 0;
  std::vector<Batch> groups;                  // by attn_dp index
  std::shared_ptr<const ExpertStep> experts;  // layers that change their placement, and copies; null: none
};

}  // namespace shoal
