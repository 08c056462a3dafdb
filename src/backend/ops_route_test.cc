// SPDX-License-Identifier: Apache-2.0
// Conformance of the router, and its semantics family by family on small hand-made cases.
#include <algorithm>

#include "backend/ops_test.h"

namespace shoal {
namespace {

class RouteOps : public OpsTest {
 protected:
  struct Routed {
    std::vector<int32_t> experts;
    std::vector<float> weights;
  };

  static Routed route(Backend& backend, const std::vector<float>& logits, RouterSpec spec,
                      const std::vector<float>& bias = {}, int64_t padding = 0) {
    if (!bias.empty()) spec.correction_bias = vector(backend, bias);
    const int64_t rows = static_cast<int64_t>(logits.size()) / spec.experts;
    const Routing routing = backend.route(strided(backend, logits, rows, spec.experts, padding), spec);
    EXPECT_EQ(routing.experts.shape(), (Shape{rows, spec.top_k}));
    return {backend.to_host_ids(routing.experts), backend.to_host(routing.weights)};
  }

  // Distinct values in random order, 0.01 apart or more, so that rounding never decides.
  std::vector<float> distinct(int64_t count) {
    std::vector<float> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(0.01f * static_cast<float>(i - count / 2));
    std::shuffle(values.begin(), values.end(), rng_);
    return values;
  }

  void compare(const RouterSpec& spec, int64_t rows, const std::vector<float>& bias = {}) {
    std::vector<float> logits;
    for (int64_t row = 0; row < rows; ++row) {
      const std::vector<float> values = distinct(spec.experts);
      logits.insert(logits.end(), values.begin(), values.end());
    }
    for (const int64_t padding : {0, 3}) {
      const Routed actual = route(*backend_, logits, spec, bias, padding);
      const Routed expected = route(reference_, logits, spec, bias, padding);
      ASSERT_EQ(actual.experts, expected.experts);
      expect_close(actual.weights, expected.weights, 1e-6, "weights");
      for (size_t i = 0; i < actual.experts.size(); ++i)
        ASSERT_TRUE(i % static_cast<size_t>(spec.top_k) == 0 || actual.experts[i - 1] < actual.experts[i]);
    }
  }
};

TEST_P(RouteOps, MatchesTheReferenceOverShapesAndScorings) {
  for (const int64_t rows : {0, 1, 33})
    for (const int64_t experts : {1, 4, 7, 32, 100, 256})
      for (const int64_t top_k : {int64_t{1}, std::min<int64_t>(experts, 8)})
        for (const Scoring scoring : {Scoring::kSoftmax, Scoring::kSigmoid})
          for (const bool renormalise : {false, true})
            compare({.experts = experts, .top_k = top_k, .scoring = scoring, .renormalise = renormalise, .scale = 2.5f},
                    rows);
}

TEST_P(RouteOps, SoftmaxOverChosenEqualsSoftmaxThenRenormalise) {
  const RouterSpec chosen = {.experts = 32, .top_k = 4, .softmax_over_chosen = true};
  compare(chosen, 20);
  const RouterSpec renormalised = {.experts = 32, .top_k = 4, .renormalise = true};
  const std::vector<float> logits = distinct(32);
  const Routed a = route(*backend_, logits, chosen), b = route(*backend_, logits, renormalised);
  EXPECT_EQ(a.experts, b.experts);
  expect_close(a.weights, b.weights, 1e-6, "weights");
}

TEST_P(RouteOps, GroupLimitedMatchesTheReference) {
  for (const GroupScore score : {GroupScore::kMax, GroupScore::kTopTwoSum})
    for (const bool zero : {false, true})
      for (const bool sigmoid : {false, true}) {
        const RouterSpec spec = {.experts = 64,
                                 .top_k = 6,
                                 .scoring = sigmoid ? Scoring::kSigmoid : Scoring::kSoftmax,
                                 .renormalise = sigmoid,
                                 .scale = 16.0f,
                                 .groups = 8,
                                 .top_groups = 3,
                                 .group_score = score,
                                 .masked_is_zero = zero};
        compare(spec, 40);
        if (sigmoid) compare(spec, 40, random(64, -0.4f, 0.4f));
      }
}

TEST_P(RouteOps, TiesGoToTheLowestExpert) {
  const Routed routed = route(*backend_, {1, 2, 2, 2, 1, 2, 0, 0}, {.experts = 8, .top_k = 3});
  EXPECT_EQ(routed.experts, (std::vector<int32_t>{1, 2, 3}));
  // The larger one comes last: of the tied ones, the lowest stays.
  EXPECT_EQ(route(*backend_, {1, 1, 2}, {.experts = 3, .top_k = 2}).experts, (std::vector<int32_t>{0, 2}));
  const Routed flat = route(*backend_, std::vector<float>(40, 0.5f), {.experts = 40, .top_k = 4});
  EXPECT_EQ(flat.experts, (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(flat.weights, std::vector<float>(4, flat.weights[0]));
}

TEST_P(RouteOps, TiedGroupsGoToTheLowestGroup) {
  const RouterSpec spec = {.experts = 8, .top_k = 2, .groups = 4, .top_groups = 1, .group_score = GroupScore::kMax};
  EXPECT_EQ(route(*backend_, {0, 0, 3, 1, 1, 3, 3, 3}, spec).experts, (std::vector<int32_t>{2, 3}));
}

// A group with one star loses to one with two good experts under V3's rule and wins under V2's.
TEST_P(RouteOps, GroupScoreMaxAndTopTwoSumDiffer) {
  const std::vector<float> logits = {3, -4, 1, 1};
  RouterSpec spec = {.experts = 4, .top_k = 2, .scoring = Scoring::kSigmoid, .groups = 2, .top_groups = 1};
  spec.group_score = GroupScore::kMax;
  EXPECT_EQ(route(*backend_, logits, spec).experts, (std::vector<int32_t>{0, 1}));
  spec.group_score = GroupScore::kTopTwoSum;
  EXPECT_EQ(route(*backend_, logits, spec).experts, (std::vector<int32_t>{2, 3}));
}

TEST_P(RouteOps, CorrectionBiasSelectsAndNeverWeighs) {
  const RouterSpec spec = {.experts = 4, .top_k = 1, .scoring = Scoring::kSigmoid};
  const Routed routed = route(*backend_, {2, 0, 1, -1}, spec, {0, 0, 0, 1});
  EXPECT_EQ(routed.experts, (std::vector<int32_t>{3}));
  EXPECT_NEAR(routed.weights[0], 1.0 / (1.0 + std::exp(1.0)), 1e-6);
}

// With a bias that makes every kept score negative, a masked score of 0 wins and one of minus infinity never does.
TEST_P(RouteOps, MaskedGroupsAsZeroOrMinusInfinity) {
  RouterSpec spec = {.experts = 4, .top_k = 2, .scoring = Scoring::kSigmoid, .groups = 2, .top_groups = 1};
  const std::vector<float> logits = {0, 0, -1, -2}, bias = {-2, -2, -1, -1};
  spec.masked_is_zero = true;
  EXPECT_EQ(route(*backend_, logits, spec, bias).experts, (std::vector<int32_t>{0, 1}));
  spec.masked_is_zero = false;
  EXPECT_EQ(route(*backend_, logits, spec, bias).experts, (std::vector<int32_t>{2, 3}));
}

TEST_P(RouteOps, TopOneSigmoidKeepsTheSigmoid) {
  const Routed routed = route(*backend_, {-3, 4, 1}, {.experts = 3, .top_k = 1, .scoring = Scoring::kSigmoid});
  EXPECT_EQ(routed.experts, (std::vector<int32_t>{1}));
  EXPECT_NEAR(routed.weights[0], 1.0 / (1.0 + std::exp(-4.0)), 1e-6);
}

TEST_P(RouteOps, ExtremeLogitsStayFinite) {
  for (const Scoring scoring : {Scoring::kSoftmax, Scoring::kSigmoid}) {
    const RouterSpec spec = {.experts = 5, .top_k = 2, .scoring = scoring, .renormalise = true};
    const std::vector<float> logits = {-1e4f, 300, -300, 299, 0};
    expect_close(route(*backend_, logits, spec).weights, route(reference_, logits, spec).weights, 1e-6, "weights");
  }
}

TEST_P(RouteOps, ARowDoesNotDependOnItsBatch) {
  const RouterSpec spec = {.experts = 37, .top_k = 5, .renormalise = true};
  const std::vector<float> logits = random(50 * 37, -4.0f, 4.0f);
  const Routed whole = route(*backend_, logits, spec);
  for (const int64_t row : {0, 21, 49}) {
    const Routed alone = route(*backend_, {logits.begin() + row * 37, logits.begin() + (row + 1) * 37}, spec);
    expect_same_bits(alone.weights, {whole.weights.begin() + row * 5, whole.weights.begin() + (row + 1) * 5}, "row");
  }
}

SHOAL_INSTANTIATE_OPS(RouteOps);

}  // namespace
}  // namespace shoal
