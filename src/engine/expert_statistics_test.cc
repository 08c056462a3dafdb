// SPDX-License-Identifier: Apache-2.0
#include "engine/expert_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <numeric>

#include "base/error.h"

namespace shoal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ExpertStatisticsTest : public testing::Test {
 protected:
  ExpertStatisticsTest() {
    std::string name = (std::filesystem::temp_directory_path() / "statistics.XXXXXX").string();
    root_ = mkdtemp(name.data());
    directory_ = root_ / "made" / "here";
  }
  ~ExpertStatisticsTest() override { std::filesystem::remove_all(root_); }

  void write(int64_t rank, const std::vector<StatisticsTensor>& tensors) {
    write_statistics(directory_, StatisticsFile::kCounts, rank, tensors);
  }
  std::string error_of_reading(const IterationRange& range = {}) {
    try {
      read_expert_statistics(directory_, range);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  std::filesystem::path root_;
  std::filesystem::path directory_;
};

TEST_F(ExpertStatisticsTest, ReadsWhatItWrites) {
  start_statistics(directory_, {.num_experts = 3, .num_experts_per_token = 2}, 2);
  write(0, {{100, 1, {3}, {1, 2, 3}}, {100, 2, {3}, {0, 0, 6}}, {101, 1, {3}, {5, 0, 1}}, {101, 2, {3}, {2, 2, 2}}});
  write(1, {{100, 1, {3}, {10, 0, 0}}, {100, 2, {3}, {0, 9, 0}}, {101, 1, {3}, {0, 0, 1}}, {101, 2, {3}, {1, 0, 0}}});
  const ExpertStatistics all = read_expert_statistics(directory_);
  EXPECT_EQ(all.meta.num_experts, 3);
  EXPECT_EQ(all.meta.num_experts_per_token, 2);
  EXPECT_EQ(all.rank_files, 2);
  EXPECT_EQ(all.first_iteration, 100);
  EXPECT_THAT(all.layers, ElementsAre(1, 2));
  EXPECT_THAT(all.counts[0][0], ElementsAre(11, 2, 3));
  EXPECT_THAT(all.total(1), ElementsAre(3, 11, 8));
  const ExpertStatistics last = read_expert_statistics(directory_, {.start = 101, .stop = 110});
  EXPECT_EQ(last.counts.size(), 1u);
  EXPECT_THAT(last.total(0), ElementsAre(5, 0, 2));
}

TEST_F(ExpertStatisticsTest, ReadsRecordedTraces) {
  const ExpertStatistics go = read_expert_statistics("tests/traces/shoal_tiny/go");
  EXPECT_EQ(go.meta.num_experts, 32);
  EXPECT_EQ(go.counts.size(), 100u);
  EXPECT_THAT(go.layers, ElementsAre(1, 2, 3, 4, 5, 6, 7));
  // Every token picks four experts in every layer.
  const std::vector<int64_t> first = go.total(0);
  for (size_t layer = 1; layer < go.layers.size(); ++layer) {
    const std::vector<int64_t> other = go.total(layer);
    EXPECT_EQ(std::accumulate(other.begin(), other.end(), int64_t{0}),
              std::accumulate(first.begin(), first.end(), int64_t{0}));
  }
}

TEST_F(ExpertStatisticsTest, SaysWhatIsMissing) {
  EXPECT_THAT(error_of_reading(), HasSubstr("give a directory"));
  std::filesystem::create_directories(directory_);
  EXPECT_THAT(error_of_reading(), HasSubstr("holds no rank0.safetensors"));
  start_statistics(directory_, {.num_experts = 2, .num_experts_per_token = 1}, 3);
  write(0, {{5, 1, {2}, {1, 1}}, {6, 1, {2}, {1, 1}}});
  write(2, {{5, 1, {2}, {1, 1}}, {6, 1, {2}, {1, 1}}});
  EXPECT_THAT(error_of_reading(), HasSubstr("rank1.safetensors is missing"));
  write(1, {{5, 1, {2}, {1, 1}}});
  EXPECT_THAT(error_of_reading(), HasSubstr("must come from one run"));
  EXPECT_EQ(error_of_reading({.start = 5, .stop = 6}), "");
  EXPECT_THAT(error_of_reading({.start = 50}), HasSubstr("no iteration in the range"));
  write(1, {{5, 1, {2}, {1, 1}}, {7, 1, {2}, {1, 1}}});
  EXPECT_THAT(error_of_reading(), HasSubstr("iteration 6 has no layer 1"));
  write(1, {{5, 1, {2}, {1, 1}}, {6, 2, {2}, {1, 1}}});
  EXPECT_THAT(error_of_reading(), HasSubstr("iteration 6 has no layer 1"));
  write(1, {{5, 1, {3}, {1, 1, 1}}, {6, 1, {3}, {1, 1, 1}}});
  EXPECT_THAT(error_of_reading(), HasSubstr("is [3], must be [2]"));
  write(1, {{5, 1, {2}, {1, -7}}, {6, 1, {2}, {1, 1}}});
  EXPECT_THAT(error_of_reading(), HasSubstr("holds -7"));
  std::ofstream(directory_ / "rank1.safetensors") << "nonsense";
  EXPECT_THAT(error_of_reading(), HasSubstr("rank1.safetensors"));
  write(1, {{5, 1, {2}, {1, 1}}, {6, 1, {2}, {1, 1}}});
  std::ofstream(directory_ / "meta_info.json") << R"({"num_experts": "two"})";
  EXPECT_THAT(error_of_reading(), HasSubstr("\"num_experts\" must be"));
}

TEST_F(ExpertStatisticsTest, PairsFromSelections) {
  start_statistics(directory_, {.num_experts = 3, .num_experts_per_token = 2}, 1);
  // Tokens: (0, 1), (1, 2), (0, 1), a padded one.
  write_statistics(directory_, StatisticsFile::kTokenSelections, 0, {{7, 4, {4, 2}, {0, 1, 1, 2, 0, 1, -1, -1}}});
  const std::vector<int64_t> derived = read_cooccurrence(directory_).at(4);
  EXPECT_THAT(derived, ElementsAre(0, 2, 0, 2, 0, 1, 0, 1, 0));
  write_statistics(directory_, StatisticsFile::kCooccurrence, 0, {{7, 4, {3, 3}, {0, 9, 0, 9, 0, 0, 0, 0, 0}}});
  EXPECT_EQ(read_cooccurrence(directory_).at(4)[1], 9);
  write_statistics(directory_, StatisticsFile::kTokenSelections, 0, {{7, 4, {1, 2}, {0, 3}}});
  EXPECT_THROW(visit_token_selections(directory_, {}, [](const TokenSelections&) {}), Error);
}

TEST_F(ExpertStatisticsTest, KeepsRunsApart) {
  start_statistics(directory_, {.num_experts = 2, .num_experts_per_token = 1}, 4);
  write(3, {{0, 0, {2}, {1, 1}}});
  start_statistics(directory_, {.num_experts = 2, .num_experts_per_token = 1}, 4);
  EXPECT_THROW(start_statistics(directory_, {.num_experts = 2, .num_experts_per_token = 1}, 2), Error);
  write_statistics(directory_, StatisticsFile::kTokenSelections, 3, {{0, 0, {1, 1}, {1}}});
  EXPECT_EQ(read_cooccurrence(directory_).size(), 1u);
  start_statistics(directory_, {.num_experts = 2, .num_experts_per_token = 1}, 4);
  EXPECT_THROW(read_cooccurrence(directory_), Error);  // of the run before
}

}  // namespace
}  // namespace shoal
