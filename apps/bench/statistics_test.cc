// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/statistics.h"

#include <gtest/gtest.h>

namespace shoal::bench {
namespace {

RequestRecord record(double start, std::vector<double> pieces, int64_t output) {
  RequestRecord made;
  made.queued_s = start;
  made.start_s = start;
  made.end_s = pieces.empty() ? start : pieces.back();
  made.pieces_s = std::move(pieces);
  made.output_tokens = output;
  made.input_tokens = 10;
  made.ok = true;
  return made;
}

TEST(Sample, PercentilesInterpolateAsNumpyDoes) {
  // numpy.percentile([15, 20, 35, 40, 50], [0, 5, 30, 40, 50, 90, 99, 100])
  const Sample sample({40, 15, 50, 20, 35});
  const std::pair<double, double> expected[] = {{0, 15},  {5, 16},  {30, 23},   {40, 29},
                                                {50, 35}, {90, 46}, {99, 49.6}, {100, 50}};
  for (const auto& [p, value] : expected) EXPECT_NEAR(sample.percentile(p), value, 1e-12) << p;
  EXPECT_DOUBLE_EQ(sample.mean(), 32);
  EXPECT_NEAR(sample.deviation(), 12.884098726725126, 1e-12);  // numpy.std
  EXPECT_EQ(sample.minimum(), 15);
  EXPECT_EQ(sample.maximum(), 50);
}

TEST(Sample, OneValueAndNone) {
  const Sample one({7});
  EXPECT_EQ(one.percentile(0), 7);
  EXPECT_EQ(one.percentile(99), 7);
  EXPECT_EQ(one.deviation(), 0);
  const Sample none;
  EXPECT_EQ(none.mean(), 0);
  EXPECT_EQ(none.percentile(50), 0);
  EXPECT_EQ(none.maximum(), 0);
}

TEST(RunSamples, DefinitionsOfEachFigure) {
  // Sent at 1 s, first token after 0.5 s, then 4 tokens in 3 chunks.
  RequestRecord a = record(1, {1.5, 1.7, 2.0, 2.3}, 5);
  a.queued_s = 0.75;
  a.cached_tokens = 4;
  RequestRecord failed = record(1, {}, 0);
  failed.ok = false;
  const RunSamples run = samples_of({a, record(2, {2.25}, 1), failed});
  EXPECT_EQ(run.completed, 2);
  EXPECT_EQ(run.failed, 1);
  EXPECT_EQ(run.input_tokens, 20);
  EXPECT_EQ(run.output_tokens, 6);
  EXPECT_EQ(run.cached_tokens, 4);
  EXPECT_DOUBLE_EQ(run.ttft.mean(), (0.5 + 0.25) / 2);
  ASSERT_EQ(run.tpot.count(), 1u) << "a single token has none";
  EXPECT_DOUBLE_EQ(run.tpot.mean(), (1.3 - 0.5) / 4);
  EXPECT_EQ(run.itl.count(), 3u);
  EXPECT_NEAR(run.itl.maximum(), 0.3, 1e-12);
  EXPECT_DOUBLE_EQ(run.latency.maximum(), 1.3);
  EXPECT_DOUBLE_EQ(run.latency_with_queue.maximum(), 1.55);
  EXPECT_DOUBLE_EQ(run.queue_time.maximum(), 0.25);
  EXPECT_DOUBLE_EQ(run.generation_per_user.mean(), 4 / 0.8);
  EXPECT_DOUBLE_EQ(run.output_per_user.mean(), (5 / 1.3 + 1 / 0.25) / 2);
}

TEST(TokensBySecond, ChunksCountAsTheirTokens) {
  // 6 tokens in 3 chunks: 2 each.
  const std::vector<double> seconds = tokens_by_second({record(10, {10.5, 11.5, 11.9}, 6), record(10.2, {12.1}, 1)});
  EXPECT_EQ(seconds, (std::vector<double>{2, 4, 1}));
  EXPECT_TRUE(tokens_by_second({}).empty());
}

TEST(PeakConcurrency, EndsBeforeStartsAtEqualTimes) {
  EXPECT_EQ(peak_concurrency({record(0, {1}, 1), record(1, {2}, 1)}), 1);
  EXPECT_EQ(peak_concurrency({record(0, {1}, 1), record(0.5, {2}, 1), record(0.9, {1.1}, 1)}), 3);
  EXPECT_EQ(peak_concurrency({}), 0);
}

TEST(CountGood, AllObjectivesMustHold) {
  const std::vector<RequestRecord> records = {record(0, {0.1, 0.2, 0.3}, 3), record(0, {0.3, 0.4}, 2)};
  EXPECT_EQ(count_good(records, {}), 2);
  EXPECT_EQ(count_good(records, {.ttft_ms = 200, .tpot_ms = -1, .e2el_ms = -1}), 1);
  EXPECT_EQ(count_good(records, {.ttft_ms = -1, .tpot_ms = 100.0001, .e2el_ms = -1}), 2);
  EXPECT_EQ(count_good(records, {.ttft_ms = 300, .tpot_ms = -1, .e2el_ms = 350}), 1);
}

}  // namespace
}  // namespace shoal::bench
