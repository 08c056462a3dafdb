// SPDX-License-Identifier: Apache-2.0
// kv_cache_config.dtype fp8: every layout rounds the same keys and values, so
// that bits still do not depend on layout, chunks or batch mates; answers stay
// near those of the cache that rounds nothing; pages take a quarter of the
// memory.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/engine.h"
#include "tests/parity/layouts.h"
#include "tests/support/golden.h"

namespace shoal {
namespace {

using Logits = std::vector<std::vector<float>>;

std::filesystem::path golden_dir(const std::string& model) { return std::filesystem::path("tests/golden") / model; }

std::vector<std::vector<int32_t>> prompts_of(const std::string& model) {
  std::vector<std::vector<int32_t>> prompts;
  for (const GoldenCase& c : load_golden(golden_dir(model))) prompts.push_back(c.prompt);
  return prompts;
}

class EightBitCache : public ::testing::TestWithParam<std::string> {
 protected:
  static EngineConfig config(const Layout& layout, const std::string& cache = "fp8") {
    EngineConfig result = config_of(layout, "float32");
    result.deterministic = true;
    result.kv_cache.dtype = cache;
    return result;
  }
  static Logits scored(const EngineConfig& config) {
    return Engine(golden_dir(GetParam()), config).score(prompts_of(GetParam()));
  }
};

// Of the distribution that `actual` gives from the one that `expected` does,
// averaged over rows.
double divergence(const Logits& expected, const Logits& actual, int64_t vocab) {
  double sum = 0;
  int64_t rows = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    for (int64_t row = 0; row < std::ssize(expected[i]) / vocab; ++row, ++rows) {
      const auto p = std::span(expected[i]).subspan(row * vocab, vocab);
      const auto q = std::span(actual[i]).subspan(row * vocab, vocab);
      const double p_sum = log_sum_exp(p), q_sum = log_sum_exp(q);
      for (int64_t id = 0; id < vocab; ++id) sum += std::exp(p[id] - p_sum) * ((p[id] - p_sum) - (q[id] - q_sum));
    }
  }
  return sum / static_cast<double>(rows);
}

size_t different_bits(const Logits& a, const Logits& b) {
  size_t different = 0;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < a[i].size(); ++j) different += std::memcmp(&a[i][j], &b[i][j], sizeof(float)) != 0;
  return different;
}

double largest_difference(const Logits& a, const Logits& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < a[i].size(); ++j)
      largest = std::max(largest, std::abs(static_cast<double>(a[i][j]) - static_cast<double>(b[i][j])));
  return largest;
}

TEST_P(EightBitCache, RoundsTheSameOnEveryLayout) {
  const Logits one = scored(config({"one"}));
  for (const Layout& layout : {Layout{"tp2", 2}, Layout{"pp2", 1, 2}, Layout{"adp2", 2, 1, 1, 0, 0, 2}})
    EXPECT_EQ(different_bits(one, scored(config(layout))), 0u) << layout.name;
  EngineConfig chunked = config({"one"});
  chunked.max_num_tokens = 33;
  chunked.enable_chunked_prefill = true;
  EXPECT_EQ(different_bits(one, scored(chunked)), 0u) << "chunks";
  // Here a value may round to the other side of a tie between two codes, 6 % apart.
  EXPECT_LT(largest_difference(one, scored(config({.name = "cp2", .cp = 2}))), 5e-2) << "ring and helix";
}

TEST_P(EightBitCache, StaysNearTheWholeCache) {
  const Logits eight = scored(config({"one"})), whole = scored(config({"one"}, "auto"));
  EXPECT_GT(different_bits(eight, whole), 0u);
  const ModelSpec spec = load_model_spec(golden_dir(GetParam()));
  EXPECT_LT(divergence(whole, eight, spec.vocab), spec.has_moe() ? 0.1 : 0.01);
}

TEST_P(EightBitCache, TakesAQuarterOfTheMemory) {
  const Engine eight(golden_dir(GetParam()), config({"one"})), whole(golden_dir(GetParam()), config({"one"}, "auto"));
  EXPECT_EQ(eight.info().plans[0].kv_bytes_per_token * 4, whole.info().plans[0].kv_bytes_per_token);
  EXPECT_EQ(eight.info().kv_dtype, DType::kF8E4M3);
}

TEST_P(EightBitCache, ReuseChangesNoToken) {
  EngineConfig shared = config({"tp2", 2});
  Engine engine(golden_dir(GetParam()), shared);
  shared.kv_cache.enable_block_reuse = false;
  Engine fresh(golden_dir(GetParam()), shared);
  std::vector<int32_t> prompt = prompts_of(GetParam()).front();
  while (prompt.size() < 80) prompt.insert(prompt.end(), prompt.begin(), prompt.end());
  SamplingParams greedy;
  greedy.max_tokens = 12;
  greedy.ignore_eos = true;
  engine.generate({prompt}, greedy);
  const GenerationResult again = engine.generate({prompt}, greedy).front();
  EXPECT_GT(again.cached_tokens, 0);
  EXPECT_EQ(again.token_ids, fresh.generate({prompt}, greedy).front().token_ids);
}

INSTANTIATE_TEST_SUITE_P(Families, EightBitCache, ::testing::Values("qwen3", "gpt_oss", "deepseek_v3", "llama4"),
                         [](const auto& row) { return row.param; });

}  // namespace
}  // namespace shoal
