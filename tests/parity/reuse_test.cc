// SPDX-License-Identifier: Apache-2.0
// Prefix reuse changes no bit of any answer (docs/numerics.md): prompts that share beginnings of every length, turns that go on with
// what was generated, with pools that are too small for all of it, on every model and one layout of every class.
#include <gtest/gtest.h>

#include <cstring>

#include "engine/engine.h"
#include "tests/parity/layouts.h"
#include "tests/support/golden.h"

namespace shoal {
namespace {

constexpr int64_t kGenerated = 5;

struct ReuseCase {
  std::string model;
  bool deterministic = false;
  std::string dtype;
  Layout layout;
};

void PrintTo(const ReuseCase& c, std::ostream* out) { *out << c.model << ' ' << c.dtype << ' ' << c.layout.name; }

std::vector<ReuseCase> reuse_cases() {
  std::vector<ReuseCase> cases;
  for (const char* dtype : {"float32", "auto"}) {
    for (const std::string& model : dense_models()) cases.push_back({model, false, dtype, {"one"}});
    for (const std::string& model : moe_models()) cases.push_back({model, false, dtype, {"one"}});
  }
  cases.push_back({"deepseek_v3", true, "auto", {"one"}});
  cases.push_back({"qwen3", false, "auto", {"tp2_pp2", 2, 2}});
  cases.push_back({"gpt_oss", true, "auto", {"pp2_ep2", 2, 2, 1, 1, 2}});
  cases.push_back({"llama4", true, "auto", {"adp4_ep4", 4, 1, 1, 1, 4, 4}});
  cases.push_back({"deepseek_v3", true, "float32", {"adp2_pp3_ep2", 2, 3, 1, 1, 2, 2}});
  const auto context = [&](const std::string& model, const Layout& layout) {
    cases.push_back({model, false, "float32", layout});
  };
  context("llama", {.name = "cp2", .cp = 2});
  context("qwen2_window", {.name = "cp3_ulysses_helix", .cp = 3, .prefill_type = "ULYSSES"});
  context("gpt_oss", {.name = "tp2_cp2", .tp = 2, .cp = 2});
  context("llama4", {.name = "cp4_ulysses", .cp = 4, .cp_type = "ULYSSES"});
  context("deepseek_v3", {.name = "cp2_ring_pp2", .pp = 2, .cp = 2, .cp_type = "RING"});
  return cases;
}

using Prompts = std::vector<std::vector<int32_t>>;

class Reuse : public ::testing::TestWithParam<ReuseCase> {
 protected:
  static std::filesystem::path model_dir() { return std::filesystem::path("tests/golden") / GetParam().model; }

  static EngineConfig config(bool reuse) {
    EngineConfig result = config_of(GetParam().layout, GetParam().dtype);
    result.deterministic = GetParam().deterministic;
    result.kv_cache.tokens_per_block = 8;
    // Room for hardly more than the longest, so that pages are evicted all the time.
    size_t longest = 0;
    for (const std::vector<int32_t>& prompt : prompts()) longest = std::max(longest, prompt.size());
    result.kv_cache.max_tokens = static_cast<int64_t>(longest) + 3 * kGenerated;
    result.max_batch_size = 3;
    result.max_num_tokens = 96;
    result.kv_cache.enable_block_reuse = reuse;
    return result;
  }

  // Whole prompts again; beginnings of them, cut inside and at the end of pages; beginnings that go on differently.
  static Prompts prompts() {
    Prompts result;
    for (const GoldenCase& c : load_golden(model_dir())) {
      const auto length = std::min<int64_t>(std::ssize(c.prompt), 180);
      const std::vector<int32_t> prompt(c.prompt.begin(), c.prompt.begin() + length);
      for (const int64_t cut : {length, length, length * 2 / 3, length / 3 / 8 * 8}) {
        if (cut == 0) continue;
        result.emplace_back(prompt.begin(), prompt.begin() + cut);
        result.push_back(result.back());
        result.back().insert(result.back().end(), {3, 1, 4, 1, 5, 9, 2, 6, 5, 3});
      }
    }
    return result;
  }

  static std::vector<GenerationResult> answers(Engine& engine, const Prompts& prompts) {
    return engine.generate(prompts, {.max_tokens = kGenerated, .ignore_eos = true, .logprobs = 4});
  }
};

void expect_same(const std::vector<GenerationResult>& expected, const std::vector<GenerationResult>& actual) {
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(expected[i].token_ids, actual[i].token_ids)
        << i << ", of " << actual[i].cached_tokens << " cached tokens";
    for (size_t j = 0; j < expected[i].logprobs.size(); ++j) {
      const TokenLogprob &a = expected[i].logprobs[j], &b = actual[i].logprobs[j];
      EXPECT_EQ(std::memcmp(&a.logprob, &b.logprob, sizeof(float)), 0) << i << ' ' << j;
      EXPECT_EQ(a.top, b.top) << i << ' ' << j << ", of " << actual[i].cached_tokens << " cached tokens";
    }
  }
}

TEST_P(Reuse, ChangesNoBit) {
  const Prompts first = prompts();
  Engine plain(model_dir(), config(false)), reusing(model_dir(), config(true));
  const std::vector<GenerationResult> expected = answers(plain, first);
  expect_same(expected, answers(reusing, first));
  Prompts second;
  for (const GenerationResult& result : expected) {
    second.push_back(result.prompt_token_ids);
    second.back().insert(second.back().end(), result.token_ids.begin(), result.token_ids.end());
    second.back().push_back(7);
  }
  expect_same(answers(plain, second), answers(reusing, second));
  EXPECT_EQ(plain.cache_use().stats.reused_tokens, 0);
  EXPECT_GT(reusing.cache_use().stats.reused_tokens, std::ssize(first));
  EXPECT_GT(reusing.cache_use().stats.evicted_pages, 0);
  EXPECT_EQ(plain.cache_use().used_pages, 0);
  EXPECT_EQ(reusing.cache_use().used_pages, 0);
}

INSTANTIATE_TEST_SUITE_P(AllModels, Reuse, ::testing::ValuesIn(reuse_cases()), [](const auto& row) {
  return row.param.model + "__" + row.param.dtype + "__" + row.param.layout.name +
         (row.param.deterministic ? "__deterministic" : "");
});

}  // namespace
}  // namespace shoal
