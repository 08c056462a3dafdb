// SPDX-License-Identifier: Apache-2.0
#include "model/context_rows.h"

#include <algorithm>

namespace shoal {

namespace {

// Some rows of a span.
void add_rows(ContextPhase& phase, const std::vector<SequenceSpan>& spans, size_t index, Range rows) {
  const SequenceSpan& span = spans[index];
  if (rows.size() == 0) return;
  phase.rows.push_back({.sequence = std::ssize(phase.spans),
                        .row = span.row_begin + rows.begin,
                        .rows = rows.size(),
                        .context = span.context - span.rows + rows.end});
  phase.spans.push_back(index);
}

void divide(ContextPhase& phase, int64_t ranks) {
  phase.projected.resize(static_cast<size_t>(ranks));
  for (int64_t rank = 0; rank < ranks; ++rank) {
    std::vector<RowRun>& runs = phase.projected[static_cast<size_t>(rank)];
    if (phase.scheme == ContextScheme::kHelix) runs = phase.rows;
    if (phase.scheme == ContextScheme::kHelix) continue;
    for (const RowRun& all : phase.rows)
      for (const Range& piece : zigzag_rows(all.rows, (rank + all.sequence) % ranks, ranks)) {
        if (piece.size() == 0) continue;
        runs.push_back({.sequence = all.sequence,
                        .row = all.row + piece.begin,
                        .rows = piece.size(),
                        .context = all.context - all.rows + piece.end});
      }
  }
}

}  // namespace

ContextPhase ContextPhase::of(Range sequences) const {
  const auto chosen = [&](const std::vector<RowRun>& all) {
    const auto begin = std::ranges::lower_bound(all, sequences.begin, {}, &RowRun::sequence);
    const auto end = std::ranges::lower_bound(begin, all.end(), sequences.end, {}, &RowRun::sequence);
    std::vector<RowRun> some(begin, end);
    for (RowRun& run : some) run.sequence -= sequences.begin;
    return some;
  };
  ContextPhase some{.scheme = scheme,
                    .prompt = prompt,
                    .spans = {spans.begin() + sequences.begin, spans.begin() + sequences.end},
                    .rows = chosen(rows),
                    .projected = {}};
  for (const std::vector<RowRun>& runs : projected) some.projected.push_back(chosen(runs));
  return some;
}

ContextStep divide_rows(const std::vector<SequenceSpan>& spans, const ContextSchemes& schemes, const PageShare& share) {
  ContextStep step{.share = share, .prompt = {}, .generated = {}, .most_positions = 0, .most_rows = 0};
  step.prompt.scheme = schemes.prefill;
  step.generated.scheme = schemes.decode;
  step.generated.prompt = false;
  for (size_t i = 0; i < spans.size(); ++i) {
    const SequenceSpan& span = spans[i];
    add_rows(step.prompt, spans, i, {0, span.prompt_rows});
    add_rows(step.generated, spans, i, {span.prompt_rows, span.rows});
  }
  divide(step.prompt, share.ranks);
  divide(step.generated, share.ranks);
  return step;
}

std::vector<int32_t> rows_of(const std::vector<RowRun>& runs) {
  std::vector<int32_t> rows;
  for (const RowRun& run : runs)
    for (int64_t i = 0; i < run.rows; ++i) rows.push_back(static_cast<int32_t>(run.row + i));
  return rows;
}

}  // namespace shoal
