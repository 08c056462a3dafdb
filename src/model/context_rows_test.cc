// SPDX-License-Identifier: Apache-2.0
#include "model/context_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>

namespace shoal {
namespace {

using ::testing::ElementsAre;
using enum ContextScheme;

// Sequences of (positions before, prompt rows, generated rows).
struct Rows {
  int64_t before = 0;
  int64_t prompt = 0;
  int64_t generated = 0;
};

std::vector<SequenceSpan> spans_of(const std::vector<Rows>& sequences) {
  std::vector<SequenceSpan> spans;
  int64_t row = 0;
  for (const Rows& rows : sequences) {
    const int64_t count = rows.prompt + rows.generated;
    spans.push_back(
        {.row_begin = row, .rows = count, .context = rows.before + count, .prompt_rows = rows.prompt, .pages = {}});
    row += count;
  }
  return spans;
}

TEST(DivideRows, PromptRowsInZigzagAndGeneratedOnesOnEveryRank) {
  const ContextStep step =
      divide_rows(spans_of({{.before = 9, .generated = 1}, {.prompt = 8}}), {kRing, kHelix}, {1, 2});
  ASSERT_EQ(step.generated.rows.size(), 1u);
  EXPECT_THAT(rows_of(step.generated.projected[0]), ElementsAre(0));
  EXPECT_THAT(rows_of(step.generated.projected[1]), ElementsAre(0));
  EXPECT_THAT(rows_of(step.prompt.projected[0]), ElementsAre(1, 2, 7, 8));
  EXPECT_THAT(rows_of(step.prompt.projected[1]), ElementsAre(3, 4, 5, 6));
  EXPECT_EQ(step.prompt.projected[1].front().context, 4);  // rows 3 and 4 are positions 2 and 3
  EXPECT_THAT(step.prompt.spans, ElementsAre(1u));
}

// One token each: nobody is left with all of them.
TEST(DivideRows, ShortSequencesSpread) {
  const std::vector<Rows> eight(8, {.before = 5, .generated = 1});
  const ContextStep step = divide_rows(spans_of(eight), {kRing, kRing}, {0, 4});
  for (const std::vector<RowRun>& runs : step.generated.projected) EXPECT_EQ(rows_of(runs).size(), 2u);
}

// The sequences of a phase before `cut` and those from there on, each taken by itself, are the phase's.
TEST(DivideRows, SomeSequencesOfAPhase) {
  const ContextStep step = divide_rows(
      spans_of({{.before = 3, .prompt = 9}, {.generated = 1}, {.prompt = 5, .generated = 1}, {.prompt = 2}}),
      {kRing, kRing}, {0, 2});
  const auto sequences = std::ssize(step.prompt.spans);
  for (int64_t cut = 0; cut <= sequences; ++cut) {
    const ContextPhase first = step.prompt.of({0, cut}), second = step.prompt.of({cut, sequences});
    EXPECT_EQ(std::ssize(first.spans), cut);
    EXPECT_TRUE(second.empty() || second.rows.front().sequence == 0);
    for (size_t rank = 0; rank < 2; ++rank) {
      std::vector<int32_t> rows = rows_of(first.projected[rank]);
      for (const int32_t row : rows_of(second.projected[rank])) rows.push_back(row);
      EXPECT_EQ(rows, rows_of(step.prompt.projected[rank]));
    }
  }
  const ContextPhase last = step.prompt.of({2, 3});
  EXPECT_THAT(last.spans, ElementsAre(3u));
  EXPECT_THAT(rows_of(last.rows), ElementsAre(16, 17));
  EXPECT_TRUE(step.prompt.of({1, 1}).empty());
}

// Every row is projected by one rank (Helix: by all), once, at its own position, in the phase of its role.
RC_GTEST_PROP(DivideRows, EveryRowOnceAtItsPosition, ()) {
  const int64_t ranks = *rc::gen::inRange(1, 6);
  const ContextScheme schemes[] = {kRing, kUlysses, kHelix};
  const ContextSchemes chosen{schemes[*rc::gen::inRange(0, 2)], schemes[*rc::gen::inRange(0, 3)]};
  std::vector<Rows> sequences;
  for (int64_t i = *rc::gen::inRange(0, 6); i > 0; --i)
    sequences.push_back({*rc::gen::inRange(0, 50), *rc::gen::inRange(0, 20), *rc::gen::inRange(0, 3)});
  const std::vector<SequenceSpan> spans = spans_of(sequences);
  const ContextStep step = divide_rows(spans, chosen, {0, ranks});
  std::map<int64_t, int64_t> expected, seen;  // batch row -> position
  for (const SequenceSpan& span : spans)
    for (int64_t i = 0; i < span.rows; ++i) expected[span.row_begin + i] = span.context - span.rows + i;
  for (const ContextPhase& phase : {step.prompt, step.generated}) {
    RC_ASSERT(std::ssize(phase.projected) == ranks);
    for (const std::vector<RowRun>& runs : phase.projected) {
      if (phase.scheme == kHelix) RC_ASSERT(rows_of(runs) == rows_of(phase.rows));
      if (phase.scheme == kHelix && &runs != &phase.projected.front()) continue;
      for (const RowRun& run : runs)
        for (int64_t i = 0; i < run.rows; ++i) {
          const SequenceSpan& span = spans[phase.spans[static_cast<size_t>(run.sequence)]];
          const bool prompt = run.row + i < span.row_begin + span.prompt_rows;
          RC_ASSERT(prompt == phase.prompt);
          RC_ASSERT(seen.emplace(run.row + i, run.context - run.rows + i).second);
        }
    }
  }
  RC_ASSERT(seen == expected);
}

}  // namespace
}  // namespace shoal
