// SPDX-License-Identifier: Apache-2.0
// Bit equality (docs/architecture.md section 4): logits on one rank, whole prompt, alone, compared bit by bit with every layout,
// batch and chunking that the contract names, in float32 and in the default dtype.
#include <gtest/gtest.h>

#include <cstring>

#include "engine/engine.h"
#include "tests/parity/layouts.h"
#include "tests/support/golden.h"

namespace shoal {
namespace {

using Logits = std::vector<std::vector<float>>;

std::vector<std::vector<int32_t>> prompts_of(const std::string& model) {
  std::vector<std::vector<int32_t>> prompts;
  for (const GoldenCase& c : load_golden(std::filesystem::path("tests/golden") / model)) prompts.push_back(c.prompt);
  return prompts;
}

Logits scored(const std::string& model, EngineConfig config, const std::vector<std::vector<int32_t>>& prompts) {
  return Engine(std::filesystem::path("tests/golden") / model, config).score(prompts);
}

// One rank, one prompt at a time.
Logits scored_alone(const std::string& model, const EngineConfig& config,
                    const std::vector<std::vector<int32_t>>& prompts) {
  Engine engine(std::filesystem::path("tests/golden") / model, config);
  Logits result;
  for (const std::vector<int32_t>& prompt : prompts) result.push_back(engine.score({prompt}).front());
  return result;
}

void expect_same_bits(const Logits& expected, const Logits& actual, const std::string& what) {
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(expected[i].size(), actual[i].size());
    size_t different = 0;
    for (size_t j = 0; j < expected[i].size(); ++j)
      different += std::memcmp(&expected[i][j], &actual[i][j], sizeof(float)) != 0;
    EXPECT_EQ(different, 0u) << what << ", prompt " << i << ": of " << expected[i].size() << " logits";
  }
}

struct BitCase {
  std::string model;
  bool moe = false;
  std::string dtype;
};

void PrintTo(const BitCase& c, std::ostream* out) { *out << c.model << ' ' << c.dtype; }

std::vector<BitCase> bit_cases() {
  std::vector<BitCase> cases;
  for (const char* dtype : {"float32", "auto"}) {
    for (const std::string& model : dense_models()) cases.push_back({model, false, dtype});
    for (const std::string& model : moe_models()) cases.push_back({model, true, dtype});
  }
  return cases;
}

class Bits : public ::testing::TestWithParam<BitCase> {
 protected:
  EngineConfig config(const Layout& layout, bool deterministic) const {
    EngineConfig result = config_of(layout, GetParam().dtype);
    result.deterministic = deterministic;
    return result;
  }
};

// Dense models always; MoE models with `deterministic`.
TEST_P(Bits, SameOnEveryLayout) {
  const BitCase& c = GetParam();
  const std::vector<std::vector<int32_t>> prompts = prompts_of(c.model);
  const Logits one = scored_alone(c.model, config({"one"}, c.moe), prompts);
  for (const Layout& layout : layouts())
    expect_same_bits(one, scored(c.model, config(layout, c.moe), prompts), layout.name);
}

// Without `deterministic`: pipeline and replicas, batch mates, chunks.
TEST_P(Bits, SameInBatchesChunksStagesAndReplicas) {
  const BitCase& c = GetParam();
  const std::vector<std::vector<int32_t>> prompts = prompts_of(c.model);
  const Logits one = scored_alone(c.model, config({"one"}, false), prompts);
  for (const Layout& layout : {Layout{"one"}, Layout{"pp2", 1, 2}, Layout{"dp2", 1, 1, 2}, Layout{"dp2_pp3", 1, 3, 2}})
    expect_same_bits(one, scored(c.model, config(layout, false), prompts), layout.name + " in a batch");
  for (const int64_t chunk : {7, 33, 64}) {
    EngineConfig chunked = config({"one"}, false);
    chunked.max_num_tokens = chunk;
    chunked.enable_chunked_prefill = true;
    expect_same_bits(one, scored(c.model, chunked, prompts), "chunks of " + std::to_string(chunk));
  }
  EngineConfig threads = config({"one"}, false);
  threads.threads_per_rank = 3;
  expect_same_bits(one, scored(c.model, threads, prompts), "three threads");
}

INSTANTIATE_TEST_SUITE_P(AllModels, Bits, ::testing::ValuesIn(bit_cases()), [](const auto& row) {
  return row.param.model + (row.param.dtype == "auto" ? "__default" : "__float32");
});

}  // namespace
}  // namespace shoal
