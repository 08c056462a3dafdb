// SPDX-License-Identifier: Apache-2.0
// How the rows of one step are divided over the context-parallel ranks: made once a step from the batch, the same on every rank.
//
// The residual stream is whole on every rank of the attention group, since the FFN, cut over all of them, needs every row anyway. What
// attention makes of a row (queries, keys, values, scores, output) exists on one of them only.
#pragma once

#include <vector>

#include "backend/specs.h"
#include "parallel/context.h"
#include "tensor/dim.h"
#include "tensor/page_share.h"

namespace shoal {

// Batch rows [row, row + rows): consecutive positions of one sequence, the last of them at context - 1.
struct RowRun {
  int64_t sequence = 0;  // of the phase, from 0
  int64_t row = 0;
  int64_t rows = 0;
  int64_t context = 0;
};

// The rows of one role, prompt or generated, which take the same scheme.
struct ContextPhase {
  ContextScheme scheme = ContextScheme::kRing;
  bool prompt = true;
  std::vector<size_t> spans;  // by sequence: which of the batch's spans it is
  std::vector<RowRun> rows;   // by sequence: its rows of this role
  // By rank: what it projects, by sequence. Zig-zag pieces, begun one rank further for each sequence so that short ones spread; Helix: every row on
  // every rank.
  std::vector<std::vector<RowRun>> projected;

  bool empty() const { return rows.empty(); }
  // Only some consecutive ones of its sequences.
  ContextPhase of(Range sequences) const;
};

// What attention needs to know of the step on one rank.
struct ContextStep {
  PageShare share;  // this rank's
  ContextPhase prompt;
  ContextPhase generated;
  // Of the longest step: positions of a sequence, and rows.
  int64_t most_positions = 0;
  int64_t most_rows = 0;
};

ContextStep divide_rows(const std::vector<SequenceSpan>& spans, const ContextSchemes& schemes, const PageShare& share);

// Batch rows of the runs, in order.
std::vector<int32_t> rows_of(const std::vector<RowRun>& runs);

}  // namespace shoal
