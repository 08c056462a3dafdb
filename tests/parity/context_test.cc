// SPDX-License-Identifier: Apache-2.0
// Context parallelism on prompts longer than the reference results: against the one-rank engine; and the memory that it saves.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/engine.h"
#include "tests/parity/layouts.h"
#include "tests/support/golden.h"

namespace shoal {
namespace {

constexpr int64_t kLength = 2000;

std::filesystem::path golden_dir(const std::string& model) { return std::filesystem::path("tests/golden") / model; }

// Pieces of the model's own prompts, one after the other.
std::vector<int32_t> long_prompt(const std::string& model) {
  const std::vector<GoldenCase> cases = load_golden(golden_dir(model));
  std::vector<int32_t> prompt;
  for (size_t i = 0; std::ssize(prompt) < kLength; ++i) {
    const std::vector<int32_t>& piece = cases[i % cases.size()].prompt;
    prompt.insert(prompt.end(), piece.begin(), piece.end());
  }
  prompt.resize(kLength);
  return prompt;
}

EngineConfig config_for(const Layout& layout) {
  EngineConfig config = config_of(layout, "float32");
  config.kv_cache.max_tokens = kLength + 64;
  config.enable_chunked_prefill = true;
  return config;
}

struct Answers {
  std::vector<float> logits;
  GenerationResult generated;
};

Answers answers(const std::string& model, const EngineConfig& config) {
  Engine engine(golden_dir(model), config);
  const std::vector<int32_t> prompt = long_prompt(model);
  SamplingParams greedy;
  greedy.max_tokens = 20;
  greedy.ignore_eos = true;
  return {engine.score({prompt}).front(), engine.generate({prompt}, greedy).front()};
}

class LongPrompt : public ::testing::TestWithParam<std::string> {};

TEST_P(LongPrompt, AgreesWithOneRank) {
  const Answers one = answers(GetParam(), config_for({"one"}));
  for (const char* name : {"cp2", "cp4_ulysses", "tp2_cp2"}) {
    const auto layout =
        std::ranges::find_if(context_layouts(), [&](const Layout& candidate) { return candidate.name == name; });
    const Answers other = answers(GetParam(), config_for(*layout));
    ASSERT_EQ(one.logits.size(), other.logits.size());
    float worst = 0.0f;
    for (size_t i = 0; i < one.logits.size(); ++i) worst = std::max(worst, std::fabs(one.logits[i] - other.logits[i]));
    EXPECT_LT(worst, 2e-4f) << name;
    EXPECT_EQ(one.generated.token_ids, other.generated.token_ids) << name;
  }
}

// Without routers, whose near-ties may go either way.
INSTANTIATE_TEST_SUITE_P(DenseModels, LongPrompt, ::testing::Values("llama", "qwen3"),
                         [](const auto& row) { return row.param; });

int64_t kv_bytes(const Engine& engine) {
  int64_t most = 0;
  for (const RankPlan& plan : engine.info().plans)
    most = std::max(most, plan.kv_bytes(engine.info().kv.pages, engine.config().kv_cache.tokens_per_block));
  return most;
}

// The same tokens in the cache of the group: a rank of four plans at most 30 % of the bytes.
TEST(ContextMemory, FourRanksShareTheCache) {
  for (const char* model : {"llama", "deepseek_v3"}) {
    EngineConfig one = config_for({"one"}), four = config_for({.name = "cp4", .cp = 4});
    const Engine alone(golden_dir(model), one), shared(golden_dir(model), four);
    EXPECT_GE(shared.info().kv.tokens, *four.kv_cache.max_tokens);
    EXPECT_LE(static_cast<double>(kv_bytes(shared)), 0.30 * static_cast<double>(kv_bytes(alone))) << model;
  }
}

}  // namespace
}  // namespace shoal
