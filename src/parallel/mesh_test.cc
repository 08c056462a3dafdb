// SPDX-License-Identifier: Apache-2.0
// The grid against its equations (docs/architecture.md section 2), on random sizes and on worked examples of rank
// order.
#include "parallel/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

namespace shoal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Groups = std::set<std::vector<int>>;

constexpr Axis kAxes[] = {Axis::kAttn,  Axis::kAttnTp, Axis::kCp, Axis::kFfnTp, Axis::kMoe,
                          Axis::kMoeTp, Axis::kMoeEp,  Axis::kPp, Axis::kStage};

Groups groups(const Mesh& mesh, Axis axis) {
  Groups all;
  for (int rank = 0; rank < mesh.world_size(); ++rank) all.insert(mesh.group(axis, rank));
  return all;
}

// Ranks that agree in everything but one coordinate, straight from the definition.
template <typename Key>
Groups groups_by(const Mesh& mesh, Key key) {
  std::map<decltype(key(Coordinates{})), std::vector<int>> by_key;
  for (int rank = 0; rank < mesh.world_size(); ++rank) by_key[key(mesh.at(rank))].push_back(rank);
  Groups all;
  for (auto& [unused, ranks] : by_key) all.insert(ranks);
  return all;
}

std::vector<int> divisors(int n) {
  std::vector<int> result;
  for (int d = 1; d <= n; ++d) {
    if (n % d == 0) result.push_back(d);
  }
  return result;
}

GridSizes random_sizes() {
  GridSizes sizes;
  sizes.data = *rc::gen::inRange(1, 4);
  sizes.pipeline = *rc::gen::inRange(1, 5);
  sizes.context = *rc::gen::inRange(1, 5);
  sizes.tensor = *rc::gen::inRange(1, 13);
  sizes.attention_data = *rc::gen::elementOf(divisors(sizes.tensor));
  sizes.moe_expert = *rc::gen::elementOf(divisors(sizes.tensor * sizes.context));
  sizes.moe_tensor = sizes.tensor * sizes.context / sizes.moe_expert;
  return sizes;
}

RC_GTEST_PROP(Mesh, RankFollowsFromCoordinates, ()) {
  const GridSizes sizes = random_sizes();
  const Mesh mesh(sizes);
  RC_ASSERT(mesh.world_size() == sizes.data * sizes.pipeline * sizes.context * sizes.tensor);
  for (int rank = 0; rank < mesh.world_size(); ++rank) {
    const Coordinates at = mesh.at(rank);
    // Context fastest, then tensor, then pipeline, replicas outermost.
    RC_ASSERT(rank == ((at.dp * sizes.pipeline + at.pp) * sizes.tensor + at.tp) * sizes.context + at.cp);
    RC_ASSERT(at.tp == at.attn_dp * mesh.attn_tp_size() + at.attn_tp);
    RC_ASSERT(rank % mesh.stage_size() == at.moe_tp * sizes.moe_expert + at.moe_ep);
    RC_ASSERT(at.cp < sizes.context && at.pp < sizes.pipeline && at.dp < sizes.data);
    RC_ASSERT(at.attn_tp < mesh.attn_tp_size() && at.attn_dp < sizes.attention_data);
    RC_ASSERT(at.moe_ep < sizes.moe_expert && at.moe_tp < sizes.moe_tensor);
  }
}

RC_GTEST_PROP(Mesh, GroupsPartitionTheWorldAndAgreeOnTheirOrder, ()) {
  const Mesh mesh(random_sizes());
  for (const Axis axis : kAxes) {
    size_t ranks = 0;
    for (const std::vector<int>& group : groups(mesh, axis)) {
      ranks += group.size();
      for (size_t i = 0; i < group.size(); ++i) {
        RC_ASSERT(mesh.group(axis, group[i]) == group);
        RC_ASSERT(mesh.place(axis, group[i]) == (GroupPlace{static_cast<int>(i), static_cast<int>(group.size())}));
      }
    }
    RC_ASSERT(ranks == static_cast<size_t>(mesh.world_size()));
  }
}

RC_GTEST_PROP(Mesh, GroupsAreTheRanksThatDifferInOneCoordinate, ()) {
  const GridSizes sizes = random_sizes();
  const Mesh mesh(sizes);
  using C = Coordinates;
  const Groups attn_tp = groups_by(mesh, [](C c) { return std::vector{c.dp, c.pp, c.cp, c.attn_dp}; });
  const Groups stages = groups_by(mesh, [](C c) { return std::vector{c.dp, c.pp}; });
  RC_ASSERT(groups(mesh, Axis::kAttnTp) == attn_tp);
  RC_ASSERT(groups(mesh, Axis::kStage) == stages);
  RC_ASSERT(groups(mesh, Axis::kMoe) == stages);
  const Groups same_tokens = groups_by(mesh, [](C c) { return std::vector{c.dp, c.pp, c.attn_dp}; });
  RC_ASSERT(groups(mesh, Axis::kAttn) == same_tokens);
  RC_ASSERT(groups(mesh, Axis::kFfnTp) == same_tokens);
  RC_ASSERT(groups(mesh, Axis::kCp) == groups_by(mesh, [](C c) { return std::vector{c.dp, c.pp, c.tp}; }));
  RC_ASSERT(groups(mesh, Axis::kMoeTp) == groups_by(mesh, [](C c) { return std::vector{c.dp, c.pp, c.moe_ep}; }));
  RC_ASSERT(groups(mesh, Axis::kMoeEp) == groups_by(mesh, [](C c) { return std::vector{c.dp, c.pp, c.moe_tp}; }));
  RC_ASSERT(groups(mesh, Axis::kPp) == groups_by(mesh, [](C c) { return std::vector{c.dp, c.cp, c.tp}; }));
}

RC_GTEST_PROP(Mesh, MoeGroupOrderIsMoeTpThenMoeEp, ()) {
  const GridSizes sizes = random_sizes();
  const Mesh mesh(sizes);
  for (int rank = 0; rank < mesh.world_size(); ++rank) {
    const Coordinates at = mesh.at(rank);
    RC_ASSERT(mesh.group(Axis::kMoe, rank)[at.moe_tp * sizes.moe_expert + at.moe_ep] == rank);
  }
}

RC_GTEST_PROP(GridProblems, AGridWithoutProblemsIsExactlyOneThatSatisfiesTheEquations, ()) {
  GridSizes sizes;
  for (int* size : {&sizes.tensor, &sizes.context, &sizes.attention_data, &sizes.moe_tensor, &sizes.moe_expert}) {
    *size = *rc::gen::inRange(0, 9);
  }
  const bool positive =
      sizes.tensor > 0 && sizes.context > 0 && sizes.attention_data > 0 && sizes.moe_tensor > 0 && sizes.moe_expert > 0;
  const bool holds = positive && sizes.tensor % sizes.attention_data == 0 &&
                     sizes.moe_tensor * sizes.moe_expert == sizes.tensor * sizes.context;
  RC_ASSERT(grid_problems(sizes).empty() == holds);
}

RC_GTEST_PROP(NearestDivisors, DivideAndNoneLiesBetween, ()) {
  const int n = *rc::gen::inRange(1, 200);
  const int value = *rc::gen::inRange(-3, 300);
  const std::vector<int64_t> near = nearest_divisors(n, value);
  for (const int64_t d : near) RC_ASSERT(n % d == 0);
  if (near.size() == 1) return;
  RC_ASSERT(near[0] < value && value < near[1]);
  for (int64_t d = near[0] + 1; d < near[1]; ++d) RC_ASSERT(n % d != 0);
}

// tp groups are the attn_tp groups when there is no attention DP.
TEST(Mesh, Tp4Cp2) {
  const Mesh mesh({.context = 2, .tensor = 4, .moe_tensor = 8});
  EXPECT_EQ(groups(mesh, Axis::kCp), (Groups{{0, 1}, {2, 3}, {4, 5}, {6, 7}}));
  EXPECT_EQ(groups(mesh, Axis::kAttnTp), (Groups{{0, 2, 4, 6}, {1, 3, 5, 7}}));
  EXPECT_EQ(groups(mesh, Axis::kFfnTp), (Groups{{0, 1, 2, 3, 4, 5, 6, 7}}));
}

TEST(Mesh, Tp2Pp2Cp2) {
  const Mesh mesh({.pipeline = 2, .context = 2, .tensor = 2, .moe_tensor = 4});
  EXPECT_EQ(groups(mesh, Axis::kCp), (Groups{{0, 1}, {2, 3}, {4, 5}, {6, 7}}));
  EXPECT_EQ(groups(mesh, Axis::kAttnTp), (Groups{{0, 2}, {1, 3}, {4, 6}, {5, 7}}));
  EXPECT_EQ(groups(mesh, Axis::kPp), (Groups{{0, 4}, {1, 5}, {2, 6}, {3, 7}}));
}

TEST(Mesh, MoeTp2Ep4On8Ranks) {
  const Mesh mesh({.tensor = 8, .moe_tensor = 2, .moe_expert = 4});
  EXPECT_EQ(groups(mesh, Axis::kMoeTp), (Groups{{0, 4}, {1, 5}, {2, 6}, {3, 7}}));
  EXPECT_EQ(groups(mesh, Axis::kMoeEp), (Groups{{0, 1, 2, 3}, {4, 5, 6, 7}}));
}

TEST(Mesh, MoeTp2Ep4WithPp2On16Ranks) {
  const Mesh mesh({.pipeline = 2, .tensor = 8, .moe_tensor = 2, .moe_expert = 4});
  EXPECT_EQ(groups(mesh, Axis::kMoeTp), (Groups{{0, 4}, {1, 5}, {2, 6}, {3, 7}, {8, 12}, {9, 13}, {10, 14}, {11, 15}}));
  EXPECT_EQ(groups(mesh, Axis::kMoeEp), (Groups{{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}, {12, 13, 14, 15}}));
}

TEST(Mesh, AttentionDp2OfTp4IsTwoGroupsOfConsecutiveRanks) {
  const Mesh mesh({.tensor = 4, .attention_data = 2, .moe_expert = 4});
  EXPECT_EQ(groups(mesh, Axis::kAttnTp), (Groups{{0, 1}, {2, 3}}));
  EXPECT_EQ(groups(mesh, Axis::kFfnTp), (Groups{{0, 1}, {2, 3}}));
  EXPECT_EQ(groups(mesh, Axis::kMoe), (Groups{{0, 1, 2, 3}}));
}

TEST(Mesh, AttentionDp2OfTp4Cp2SharesTokensAmongFourRanks) {
  const Mesh mesh({.context = 2, .tensor = 4, .attention_data = 2, .moe_expert = 8});
  EXPECT_EQ(groups(mesh, Axis::kAttn), (Groups{{0, 1, 2, 3}, {4, 5, 6, 7}}));
  EXPECT_EQ(groups(mesh, Axis::kAttnTp), (Groups{{0, 2}, {1, 3}, {4, 6}, {5, 7}}));
  EXPECT_EQ(groups(mesh, Axis::kCp), (Groups{{0, 1}, {2, 3}, {4, 5}, {6, 7}}));
}

TEST(Mesh, ReplicasNeverShareExperts) {
  const Mesh mesh({.data = 2, .tensor = 2, .moe_expert = 2});
  EXPECT_EQ(groups(mesh, Axis::kMoeEp), (Groups{{0, 1}, {2, 3}}));
}

// docs/parallel.md shows this grid as a table of ranks.
TEST(Mesh, TheDocsShowTheRanksOfAnExample) {
  const Mesh mesh({.pipeline = 2, .tensor = 4, .attention_data = 2, .moe_tensor = 2, .moe_expert = 2});
  const auto list = [](const std::vector<int>& ranks) {
    std::string text;
    for (const int rank : ranks) text += (text.empty() ? "" : " ") + std::to_string(rank);
    return text;
  };
  std::string table;
  for (int rank = 0; rank < mesh.world_size(); ++rank) {
    const Coordinates at = mesh.at(rank);
    for (const int value : {rank, at.pp, at.tp, at.attn_dp, at.attn_tp, at.moe_tp, at.moe_ep}) {
      table += "| " + std::to_string(value) + " ";
    }
    for (const Axis axis : {Axis::kAttnTp, Axis::kMoeTp, Axis::kMoeEp, Axis::kPp}) {
      table += "| " + list(mesh.group(axis, rank)) + " ";
    }
    table += "|\n";
  }
  std::ifstream file("docs/parallel.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_NE(text.str().find(table), std::string::npos) << "docs/parallel.md must hold these rows:\n" << table;
}

TEST(GridProblems, AllAtOnceWithTheNearestThatWork) {
  EXPECT_THAT(
      grid_problems({.data = 0, .tensor = 8, .attention_data = 3, .moe_tensor = 2, .moe_expert = 3}),
      ElementsAre("data_parallel_size is 0, must be from 1 to 65536; nearest: 1",
                  "attention_dp_size is 3, must divide tensor_parallel_size 8; nearest: 2 or 4",
                  "moe_tensor_parallel_size 2 * moe_expert_parallel_size 3 = 6, must equal tensor_parallel_size 8; "
                  "nearest: 2 * 4 or 4 * 2"));
}

TEST(GridProblems, MoeRanksAreTensorTimesContext) {
  EXPECT_THAT(grid_problems({.context = 2, .tensor = 4, .moe_tensor = 1, .moe_expert = 4}),
              ElementsAre(HasSubstr("must equal tensor_parallel_size 4 * context_parallel_size 2 = 8; nearest: ")));
  EXPECT_TRUE(grid_problems({.context = 2, .tensor = 4, .moe_tensor = 2, .moe_expert = 4}).empty());
}

TEST(GridProblems, HugeSizesAreRefusedWithoutOverflow) {
  EXPECT_THAT(grid_problems({.data = 65536, .pipeline = 65536, .context = 65536, .tensor = 65536, .moe_tensor = 1}),
              ElementsAre(HasSubstr("must be at most 65536 ranks"), HasSubstr("must equal")));
  EXPECT_THAT(grid_problems({.tensor = 2147483647, .moe_tensor = 2147483647}),
              ElementsAre(HasSubstr("nearest: 65536"), HasSubstr("nearest: 65536")));
}

TEST(MeshDeathTest, UncheckedSizesAbort) {
  EXPECT_DEATH(Mesh({.tensor = 4, .moe_expert = 3}), "mesh of unchecked sizes: moe_tensor_parallel_size 1");
}

}  // namespace
}  // namespace shoal
