// SPDX-License-Identifier: Apache-2.0
// How much memory a step takes on a rank beside weights and KV cache, found by running the model's own code over a dry backend: what takes
// memory in a real step takes it here, and nothing is computed or touched. Of routed experts: as much as one call may bring to a rank
// (parallel/moe_load.h), so that no router takes more. Of context parallelism's gathered pages: one longest sequence's (page_runs in
// parallel/context.h).
#pragma once

#include "backend/factory.h"
#include "model/model.h"

namespace shoal {

// The longest steps of an attention-DP group: one prompt's last rows, and other prompts if those are not enough, with or without
// sequences that generate.
struct StepSize {
  int64_t rows = 0;        // at most `sequences` times `context`
  int64_t sequences = 0;   // at most `rows`
  int64_t context = 0;     // of the longest sequence
  int64_t logit_rows = 0;  // at most `rows`
};

struct RankMemory {
  int64_t kept_bytes = 0;  // weights, and tables of positions and slots
  int64_t step_bytes = 0;
  int64_t comm_bytes = 0;  // staging of its groups
};

struct MemoryQuestion {
  const ModelSpec& spec;
  const Mesh& mesh;
  const ModelOptions& options;
  BackendOptions backend;
  StepSize step;  // `rows` are options.most_tokens
};
RankMemory rank_memory(const MemoryQuestion& question, int rank);

}  // namespace shoal
