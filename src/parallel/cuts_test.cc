// SPDX-License-Identifier: Apache-2.0
// Parts cover what is cut, are disjoint and in order, and differ by at most a unit; cuts at 2, 4 and 8 are the eighths.
#include "parallel/cuts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

namespace shoal {
namespace {

using ::testing::ElementsAre;
using Part = Range (*)(int64_t, int64_t, int64_t);

// Consecutive, from 0 to n; no two sizes further apart than `slack`.
bool covers(const std::vector<Range>& parts, int64_t n, int64_t slack) {
  int64_t at = 0;
  int64_t least = n;
  int64_t most = 0;
  for (const Range& part : parts) {
    if (part.begin != at || part.end < part.begin) return false;
    at = part.end;
    least = std::min(least, part.size());
    most = std::max(most, part.size());
  }
  return at == n && most - least <= slack;
}

std::vector<Range> all_parts(Part part, int64_t n, int64_t parts) {
  std::vector<Range> result;
  for (int64_t i = 0; i < parts; ++i) result.push_back(part(n, i, parts));
  return result;
}

RC_GTEST_PROP(Cuts, PartsCoverAndDifferByAtMostOne, ()) {
  const int64_t n = *rc::gen::inRange(0, 5000);
  const int64_t parts = *rc::gen::inRange(1, 70);
  RC_ASSERT(covers(all_parts(even_part, n, parts), n, 1));
  const std::vector<Range> front = all_parts(front_loaded_part, n, parts);
  RC_ASSERT(covers(front, n, 1));
  RC_ASSERT(std::is_sorted(front.begin(), front.end(), [](Range a, Range b) { return a.size() > b.size(); }));
}

RC_GTEST_PROP(Cuts, EvenPartsOf2And4And8AreUnionsOfEighths, ()) {
  const int64_t n = *rc::gen::inRange<int64_t>(0, int64_t{1} << 40);
  for (const int64_t parts : {1, 2, 4, 8}) {
    for (int64_t i = 0; i < parts; ++i) {
      const Range expected{i * (8 / parts) * n / 8, (i + 1) * (8 / parts) * n / 8};
      RC_ASSERT(even_part(n, i, parts) == expected);
    }
  }
}

RC_GTEST_PROP(Slice, TheRanksOfAGroupShareADimension, ()) {
  GridSizes sizes;
  sizes.pipeline = *rc::gen::inRange(1, 3);
  sizes.context = *rc::gen::inRange(1, 4);
  sizes.attention_data = *rc::gen::inRange(1, 4);
  sizes.tensor = sizes.attention_data * *rc::gen::inRange(1, 5);
  sizes.moe_tensor = sizes.tensor;
  sizes.moe_expert = sizes.context;
  const Mesh mesh(sizes);
  const int64_t unit = *rc::gen::inRange(1, 130);
  const int64_t units = *rc::gen::inRange(0, 300);
  const int rank = *rc::gen::inRange(0, mesh.world_size());
  for (const Cut cut : {Cut::kFfnTp, Cut::kVocab, Cut::kMoeTp}) {
    std::vector<Range> parts;
    for (const int peer : mesh.group(axis_of(cut), rank)) {
      parts.push_back(slice({"dim", units * unit, unit, cut}, mesh, peer));
    }
    RC_ASSERT(covers(parts, units * unit, unit));
  }
}

RC_GTEST_PROP(Slice, EachKvHeadServesItsOwnQueryHeads, ()) {
  const int attn_tp = 1 << *rc::gen::inRange(0, 4);
  const int64_t kv_heads = int64_t{1} << *rc::gen::inRange(0, 5);
  const int64_t heads = std::max<int64_t>(kv_heads, attn_tp) * *rc::gen::inRange(1, 5);
  const int64_t head_dim = *rc::gen::inRange(1, 129);
  const Mesh mesh({.tensor = attn_tp, .moe_tensor = attn_tp});
  const Dim q{"heads", heads * head_dim, head_dim, Cut::kAttnTp};
  const Dim kv{"kv_heads", kv_heads * head_dim, head_dim, Cut::kKvHeads};
  for (int rank = 0; rank < attn_tp; ++rank) {
    const Range own_q = slice(q, mesh, rank);
    const Range own_kv = slice(kv, mesh, rank);
    RC_ASSERT(own_q.size() == q.size / attn_tp);
    RC_ASSERT(own_kv.size() == std::max<int64_t>(kv_heads / attn_tp, 1) * head_dim);
    for (int64_t head = own_q.begin / head_dim; head < own_q.end / head_dim; ++head) {
      RC_ASSERT(own_kv.contains(head / (heads / kv_heads) * head_dim));
    }
  }
}

TEST(Slice, KvHeadsAreRepeatedOnConsecutiveRanks) {
  // Rank r uses KV head r div (tp / kv_heads).
  const Mesh mesh({.tensor = 8, .moe_tensor = 8});
  const Dim kv{"kv_heads", 2 * 64, 64, Cut::kKvHeads};
  for (int rank = 0; rank < 8; ++rank) {
    const int64_t head = rank / 4;
    EXPECT_EQ(slice(kv, mesh, rank), (Range{head * 64, head * 64 + 64})) << rank;
  }
}

TEST(Slice, WorkedExampleOfTheHeader) {
  const Mesh mesh({.tensor = 4, .moe_tensor = 4});
  EXPECT_EQ(slice({"heads", 8 * 64, 64, Cut::kAttnTp}, mesh, 1), (Range{128, 256}));
  EXPECT_EQ(slice({"kv_heads", 2 * 64, 64, Cut::kKvHeads}, mesh, 1), (Range{0, 64}));
}

TEST(Slice, AttentionDpCutsByAttnTpOnlyButExpertsByAllRanks) {
  const Mesh mesh({.tensor = 4, .attention_data = 2, .moe_tensor = 4});
  EXPECT_EQ(slice({"heads", 8, 1, Cut::kAttnTp}, mesh, 3), (Range{4, 8}));
  EXPECT_EQ(slice({"ffn", 100, 1, Cut::kFfnTp}, mesh, 3), (Range{50, 100}));
  EXPECT_EQ(slice({"vocab", 7, 1, Cut::kVocab}, mesh, 2), (Range{0, 3}));
  EXPECT_EQ(slice({"moe_ffn", 100, 1, Cut::kMoeTp}, mesh, 3), (Range{75, 100}));
  EXPECT_EQ(slice({"hidden", 100, 1, Cut::kNone}, mesh, 3), (Range{0, 100}));
}

TEST(Slice, ContextRanksShareTheFfnAndRepeatTheHeads) {
  const Mesh mesh({.context = 2, .tensor = 2, .moe_tensor = 4});
  EXPECT_EQ(slice({"ffn", 8, 1, Cut::kFfnTp}, mesh, 1), (Range{2, 4}));
  EXPECT_EQ(slice({"heads", 8, 1, Cut::kAttnTp}, mesh, 1), (Range{0, 4}));
  EXPECT_EQ(slice({"heads", 8, 1, Cut::kAttnTp}, mesh, 2), (Range{4, 8}));
}

TEST(SliceDeathTest, ExpertsHaveNoRangeAndHeadsNoRemainder) {
  const Mesh mesh({.tensor = 4, .moe_expert = 4});
  EXPECT_DEATH(slice({"experts", 8, 1, Cut::kExperts}, mesh, 0), "placed by expert");
  EXPECT_DEATH(slice({"heads", 6, 1, Cut::kAttnTp}, mesh, 0), "heads: heads not divisible");
  EXPECT_DEATH(slice({"kv_heads", 3, 1, Cut::kKvHeads}, mesh, 0), "size % heads");
  EXPECT_DEATH(slice({"ffn", 7, 2, Cut::kFfnTp}, mesh, 0), "dim.unit");
}

TEST(StageLayers, FirstStagesTakeOneMoreUnlessToldOtherwise) {
  EXPECT_THAT(stage_layers(8, 3, {}), ElementsAre(Range{0, 3}, Range{3, 6}, Range{6, 8}));
  EXPECT_THAT(stage_layers(8, 3, {1, 6, 1}), ElementsAre(Range{0, 1}, Range{1, 7}, Range{7, 8}));
}

}  // namespace
}  // namespace shoal
