// SPDX-License-Identifier: Apache-2.0
#include "engine/kv_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace shoal {
namespace {

constexpr int64_t kMiB = 1 << 20;

RankPlan rank_plan(int64_t weight_bytes, int64_t kv_bytes_per_token) {
  RankPlan plan;
  plan.weight_bytes = weight_bytes;
  plan.kv_bytes_per_token = kv_bytes_per_token;
  plan.kv_pool_bytes_per_token = {kv_bytes_per_token};
  return plan;
}

int64_t pages_of(const std::vector<RankPlan>& plans, const EngineConfig& config, int64_t available) {
  return kv_sizes({.plans = plans,
                   .config = config,
                   .pools = {{}},
                   .max_seq_len = 1024,
                   .available_bytes = available,
                   .memory_limit = "the host"})
      .pages.front();
}

TEST(KvPages, TheRankWithTheLeastRoomDecides) {
  EngineConfig config;
  config.kv_cache.free_memory_fraction = 0.5;
  // 100 MiB - 20 MiB of weights; half of it for two ranks: 20 MiB each; pages of 32 tokens: 32 KiB and 64 KiB.
  const std::vector<RankPlan> plans = {rank_plan(10 * kMiB, 1024), rank_plan(10 * kMiB, 2048)};
  EXPECT_EQ(pages_of(plans, config, 100 * kMiB), 20 * 1024 / 64);
}

TEST(KvPages, LesserOfMaxTokensAndMemory) {
  EngineConfig config;
  const std::vector<RankPlan> plans = {rank_plan(0, 1024)};
  config.kv_cache.max_tokens = 100;
  EXPECT_EQ(pages_of(plans, config, 100 * kMiB), 4);
  config.kv_cache.max_tokens = 1'000'000;
  EXPECT_EQ(pages_of(plans, config, 100 * kMiB), 2880);  // 90 MiB of 32 KiB pages
}

TEST(KvPages, NoMoreThanEverySequenceAtFullLength) {
  EngineConfig config;
  config.max_batch_size = 3;
  EXPECT_EQ(pages_of({rank_plan(0, 1)}, config, 100 * kMiB), 3 * 1024 / 32);
}

TEST(KvPages, RefusesWithTheNumbers) {
  try {
    pages_of({rank_plan(60 * kMiB, 1024), rank_plan(60 * kMiB, 1024)}, {}, 100 * kMiB);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("100.0 MiB of memory available"),
                                             testing::HasSubstr("120.0 MiB for the weights of 2 ranks"),
                                             testing::HasSubstr("120.1 MiB would do")));
  }
}

std::string refusal(std::vector<RankPlan> plans, const EngineConfig& config) {
  try {
    pages_of(plans, config, 100 * kMiB);
  } catch (const Error& error) {
    return error.what();
  }
  return "fits";
}

TEST(KvPages, SaysWhatWouldFit) {
  EngineConfig replicas;
  replicas.data_parallel_size = 3;
  EXPECT_THAT(refusal(std::vector<RankPlan>(3, rank_plan(40 * kMiB, 1024)), replicas),
              testing::HasSubstr("data_parallel_size 2 would fit"));
  RankPlan wide = rank_plan(40 * kMiB, 1024);
  wide.activation_bytes = 80 * kMiB;
  EXPECT_THAT(refusal({wide}, {}), testing::AllOf(testing::HasSubstr("80.0 MiB for a step"),
                                                  testing::HasSubstr("60.0 MiB at most would fit")));
  wide.activation_bytes = 50 * kMiB;
  EXPECT_EQ(refusal({wide}, {}), "fits");
}

TEST(FormatBytes, PicksTheUnit) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(3.0 * 1024 * 1024 * 1024), "3.0 GiB");
}

}  // namespace
}  // namespace shoal
