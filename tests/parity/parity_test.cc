// SPDX-License-Identifier: Apache-2.0
// Every model on every layout against independent reference results, in float32: logits to 2e-4 on the rows where no decision is a
// near-tie, greedy tokens as far as the reference's margins carry (docs/architecture.md section 4).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/engine.h"
#include "tests/parity/layouts.h"
#include "tests/support/golden.h"

namespace shoal {
namespace {

constexpr float kTolerance = 2e-4f;

std::filesystem::path golden_dir(const std::string& model) { return std::filesystem::path("tests/golden") / model; }

std::vector<std::vector<int32_t>> prompts_of(const std::vector<GoldenCase>& cases) {
  std::vector<std::vector<int32_t>> prompts;
  for (const GoldenCase& c : cases) prompts.push_back(c.prompt);
  return prompts;
}

float worst_difference(const GoldenCase& c, const std::vector<float>& logits) {
  float worst = 0.0f;
  const int64_t last = std::min<int64_t>(c.strict_rows, static_cast<int64_t>(c.prompt.size()));
  for (int64_t row = c.first_row; row < last; ++row)
    for (int64_t i = 0; i < c.vocab; ++i) {
      const float difference = std::fabs(logits[row * c.vocab + i] - c.logits[(row - c.first_row) * c.vocab + i]);
      worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
    }
  return worst;
}

void expect_greedy(const GoldenCase& c, const GenerationResult& result) {
  ASSERT_GE(result.token_ids.size(), static_cast<size_t>(c.strict_greedy)) << result.error;
  for (int64_t i = 0; i < c.strict_greedy; ++i) {
    ASSERT_EQ(result.token_ids[i], c.greedy[i]) << "token " << i << " after a prompt of " << c.prompt.size();
    EXPECT_NEAR(result.logprobs[i].logprob, c.logprobs[i], kTolerance) << "token " << i;
  }
}

class Parity : public ::testing::TestWithParam<std::tuple<std::string, Layout>> {};

TEST_P(Parity, AgreesWithReference) {
  const auto& [model, layout] = GetParam();
  const std::vector<GoldenCase> cases = load_golden(golden_dir(model));
  ASSERT_FALSE(cases.empty());
  Engine engine(golden_dir(model), config_of(layout, "float32"));
  const std::vector<std::vector<float>> scored = engine.score(prompts_of(cases));
  SamplingParams greedy;
  greedy.max_tokens = static_cast<int64_t>(cases.front().greedy.size());
  greedy.ignore_eos = true;
  // All prompts at once, so that they share batches and go to different replicas and attention-DP groups.
  const std::vector<GenerationResult> generated = engine.generate(prompts_of(cases), greedy);
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_LT(worst_difference(cases[i], scored[i]), kTolerance) << "prompt of " << cases[i].prompt.size();
    expect_greedy(cases[i], generated[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(AllModelsAllLayouts, Parity,
                         ::testing::Combine(::testing::ValuesIn(all_models()), ::testing::ValuesIn(layouts())),
                         [](const auto& row) { return std::get<0>(row.param) + "__" + std::get<1>(row.param).name; });
INSTANTIATE_TEST_SUITE_P(AllModelsContextParallel, Parity,
                         ::testing::Combine(::testing::ValuesIn(all_models()), ::testing::ValuesIn(context_layouts())),
                         [](const auto& row) { return std::get<0>(row.param) + "__" + std::get<1>(row.param).name; });

// The embedded model's own continuations.
TEST(ShoalTiny, ContinuesAsItsReference) {
  const std::vector<GoldenCase> cases = load_golden("models/shoal-tiny");
  ASSERT_FALSE(cases.empty());
  for (const Layout& layout : layouts()) {
    if (layout.tp * layout.pp * layout.dp > 4) continue;
    EngineConfig config = config_of(layout, "float32");
    config.kv_cache.max_tokens = 8192;
    SamplingParams greedy;
    greedy.max_tokens = static_cast<int64_t>(cases.front().greedy.size());
    greedy.ignore_eos = true;
    const std::vector<GenerationResult> results =
        Engine("models/shoal-tiny", config).generate(prompts_of(cases), greedy);
    for (size_t i = 0; i < cases.size(); ++i) {
      SCOPED_TRACE(layout.name);
      expect_greedy(cases[i], results[i]);
    }
  }
}

class DefaultDtype : public ::testing::TestWithParam<std::string> {};

TEST_P(DefaultDtype, StaysNearReference) {
  const std::vector<GoldenCase> cases = load_golden(golden_dir(GetParam()));
  Engine engine(golden_dir(GetParam()), config_of({"one"}, "auto"));
  const std::vector<std::vector<float>> scored = engine.score(prompts_of(cases));
  std::vector<float> reference, ours;
  for (size_t i = 0; i < cases.size(); ++i) {
    reference.insert(reference.end(), cases[i].logits.begin(), cases[i].logits.end());
    ours.insert(ours.end(), scored[i].begin() + cases[i].first_row * cases[i].vocab, scored[i].end());
  }
  EXPECT_LT(mean_kl(reference, ours, cases.front().vocab), 2e-3);
}

INSTANTIATE_TEST_SUITE_P(AllModels, DefaultDtype, ::testing::ValuesIn(all_models()),
                         [](const auto& row) { return row.param; });

}  // namespace
}  // namespace shoal
