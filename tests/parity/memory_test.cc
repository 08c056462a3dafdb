// SPDX-License-Identifier: Apache-2.0
// What the plan says about a rank's memory, against the most that its backend held while the longest steps ran: every family's kinds of
// layers, every way to divide them.
#include <gtest/gtest.h>

#include <functional>
#include <future>

#include "engine/engine.h"
#include "tests/parity/layouts.h"

namespace shoal {
namespace {

constexpr int64_t kRows = 256;
constexpr int64_t kSequences = 8;
constexpr int64_t kLength = 512;

struct MemoryCase {
  std::string model;
  Layout layout;
  bool deterministic = false;
};

void PrintTo(const MemoryCase& c, std::ostream* out) { *out << c.model << ' ' << c.layout.name; }

using Prompts = std::function<std::vector<int32_t>(int64_t tokens, int64_t vocab, int64_t salt)>;

// Bytes of a rank: planned, planned, and the most at a time of all.
struct Use {
  double kept, step, held;
  double of_plan() const { return (kept + step) / held; }
  double step_of_plan() const { return step / (held - kept); }
};

void PrintTo(const Use& use, std::ostream* out) {
  *out << "weights and cache " << use.kept << ", a step " << use.step << ", held " << use.held;
}

std::vector<Use> uses(const Engine& engine, int64_t tokens_per_block = KvCacheConfig().tokens_per_block) {
  std::vector<Use> result;
  for (const int64_t peak : engine.peak_bytes()) {
    const RankPlan& plan = engine.info().plans[result.size()];
    const int64_t kept = plan.weight_bytes + plan.kv_bytes(engine.info().kv.pages, tokens_per_block);
    result.push_back(
        {static_cast<double>(kept), static_cast<double>(plan.activation_bytes), static_cast<double>(peak)});
  }
  return result;
}

class Memory : public ::testing::TestWithParam<MemoryCase> {
 protected:
  static EngineConfig config() {
    EngineConfig config = config_of(GetParam().layout, "float32");
    config.deterministic = GetParam().deterministic;
    config.enable_chunked_prefill = true;
    config.max_num_tokens = kRows;
    config.max_batch_size = kSequences;
    config.max_seq_len = kLength;
    config.kv_cache.max_tokens = 4 * kLength + 100;  // no round number
    return config;
  }

  static std::vector<int32_t> prompt(int64_t tokens, int64_t vocab, int64_t salt) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < tokens; ++i)
      ids.push_back(static_cast<int32_t>(((i + 1) * (7919 + 30 * salt) + tokens + salt) % vocab));
    return ids;
  }

  // One token again and again: its rows are much alike, so they are all sent to the same experts.
  static std::vector<int32_t> monotonous(int64_t tokens, int64_t, int64_t) { return std::vector<int32_t>(tokens, 7); }

  // In every group of every replica: sequences that generate, and while they do a prompt to the last position, whose chunks fill the step.
  static void run_longest_steps(Engine& engine, const Prompts& prompt) {
    const int64_t vocab = engine.spec().vocab;
    const int replicas = engine.mesh().sizes().data;
    const int groups = replicas * engine.mesh().sizes().attention_data;  // requests go to the replicas by turns
    std::vector<std::promise<void>> ended(groups * kSequences);
    std::vector<std::promise<void>> generating(groups * (kSequences - 1));
    const auto submit = [&](int group, int64_t length, int64_t tokens, size_t index, std::promise<void>* first) {
      SamplingParams params;
      params.max_tokens = tokens;
      params.ignore_eos = true;
      SchedulingParams scheduling;
      scheduling.attention_dp_rank = group / replicas;
      RequestCallbacks callbacks;
      callbacks.on_output = [first, told = false](const OutputDelta&) mutable {
        if (first && !std::exchange(told, true)) first->set_value();
      };
      callbacks.on_finish = [&ended, index](const GenerationResult&) { ended[index].set_value(); };
      engine.submit(prompt(length, vocab, group), params, std::move(callbacks), scheduling);
    };
    for (int64_t i = 0; i + 1 < kSequences; ++i)
      for (int group = 0; group < groups; ++group)
        submit(group, 2, 60, group * kSequences + i, &generating[group * (kSequences - 1) + i]);
    for (auto& one : generating) one.get_future().wait();
    for (int group = 0; group < groups; ++group) submit(group, kLength - 1, 1, (group + 1) * kSequences - 1, nullptr);
    for (auto& one : ended) one.get_future().wait();
    std::vector<std::vector<int32_t>> prompts;
    for (int group = 0; group < groups; ++group) prompts.push_back(prompt(kLength - 1, vocab, group));
    engine.score(prompts, [](size_t, const LogitRows&) {});
  }

  static std::vector<Use> use_of(const Prompts& prompts) {
    Engine engine(std::filesystem::path("tests/golden") / GetParam().model, config());
    run_longest_steps(engine, prompts);
    return uses(engine);
  }
};

TEST_P(Memory, PlannedIsWhatIsHeld) {
  for (const Use& use : use_of(prompt)) {
    EXPECT_NEAR(use.of_plan(), 1.0, 0.05) << ::testing::PrintToString(use);
    // What is planned for experts is a bound, above what they take when they are asked evenly.
    EXPECT_GE(use.step_of_plan(), 0.95);
    EXPECT_LE(use.step_of_plan(), GetParam().layout.ep > 1 ? 1.25 : 1.05);
  }
}

TEST_P(Memory, ARouterThatPrefersSomeExpertsTakesNoMore) {
  for (const Use& use : use_of(monotonous)) EXPECT_GE(use.of_plan(), 0.99) << ::testing::PrintToString(use);
}

INSTANTIATE_TEST_SUITE_P(Layouts, Memory,
                         ::testing::Values(MemoryCase{"qwen3", {"one"}}, MemoryCase{"qwen3", {"tp2", 2}},
                                           MemoryCase{"llama", {"pp2", 1, 2}}, MemoryCase{"deepseek_v3", {"one"}},
                                           MemoryCase{"deepseek_v3", {"ep4", 4, 1, 1, 0, 4}},
                                           MemoryCase{"deepseek_v3", {"adp4_ep4", 4, 1, 1, 1, 4, 4}, true},
                                           MemoryCase{"gpt_oss", {"tp2_pp2", 2, 2}},
                                           MemoryCase{"llama4", {"tp4_adp2_ep4", 4, 1, 1, 1, 4, 2}},
                                           MemoryCase{"qwen3_moe", {"dp2_tp2_ep2", 2, 1, 2, 1, 2}},
                                           MemoryCase{"qwen3", {.name = "cp2", .cp = 2}},
                                           MemoryCase{"deepseek_v3", {.name = "tp2_cp2", .tp = 2, .cp = 2}},
                                           MemoryCase{"qwen3", {.name = "cp4_ulysses", .cp = 4, .cp_type = "ULYSSES"}}),
                         [](const auto& row) { return row.param.model + "__" + row.param.layout.name; });

// Where sequences are short, a step holds many whole prompts.
class MemoryOfManyPrompts : public ::testing::TestWithParam<MemoryCase> {};

std::vector<std::vector<int32_t>> many_prompts(int64_t count, int64_t tokens, int64_t vocab) {
  std::vector<std::vector<int32_t>> prompts(count);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t t = 0; t < tokens; ++t) prompts[i].push_back(static_cast<int32_t>((t * 7 + i * 31) % vocab));
  return prompts;
}

TEST_P(MemoryOfManyPrompts, PlannedIsWhatIsHeld) {
  constexpr int64_t kPrompts = 16, kTokens = 128;
  EngineConfig config = config_of(GetParam().layout, "float32");
  config.max_num_tokens = 2 * kPrompts * kTokens;  // more than there can be
  config.max_batch_size = kPrompts;
  config.max_seq_len = kTokens;
  Engine engine(std::filesystem::path("tests/golden") / GetParam().model, config);
  engine.score(many_prompts(4 * kPrompts, kTokens, engine.spec().vocab));  // some steps
  for (const Use& use : uses(engine)) {
    EXPECT_NEAR(use.of_plan(), 1.0, 0.05) << ::testing::PrintToString(use);
    EXPECT_NEAR(use.step_of_plan(), 1.0, 0.1);
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, MemoryOfManyPrompts,
                         ::testing::Values(MemoryCase{"qwen3", {"one"}}, MemoryCase{"qwen3", {"tp2", 2}},
                                           MemoryCase{"qwen3", {"pp2", 1, 2}}, MemoryCase{"qwen3", {"pp3", 1, 3}},
                                           MemoryCase{"deepseek_v3", {"one"}}, MemoryCase{"mixtral", {"tp2", 2}},
                                           MemoryCase{"qwen3", {.name = "cp2", .cp = 2}},
                                           MemoryCase{"deepseek_v2", {.name = "cp2_pp2", .pp = 2, .cp = 2}}),
                         [](const auto& row) { return row.param.model + "__" + row.param.layout.name; });

// Steps of many sequences with long contexts: what attention by ring and Ulysses gathers for them is bounded by one of the greatest length.
class MemoryOfManyContexts : public ::testing::TestWithParam<MemoryCase> {};

TEST_P(MemoryOfManyContexts, PlannedIsWhatIsHeld) {
  constexpr int64_t kTokens = 250, kGenerated = 6;
  EngineConfig config = config_of(GetParam().layout, "float32");
  config.deterministic = GetParam().deterministic;
  config.enable_chunked_prefill = true;
  config.max_num_tokens = 64;
  config.max_batch_size = 16;
  config.max_seq_len = kTokens + kGenerated;
  config.kv_cache.max_tokens = 16 * (kTokens + kGenerated);
  config.kv_cache.tokens_per_block = 8;
  Engine engine(std::filesystem::path("tests/golden") / GetParam().model, config);
  SamplingParams greedy;
  greedy.max_tokens = kGenerated;
  greedy.ignore_eos = true;
  engine.generate(many_prompts(24, kTokens, engine.spec().vocab), greedy);
  for (const Use& use : uses(engine, config.kv_cache.tokens_per_block)) {
    EXPECT_NEAR(use.of_plan(), 1.0, 0.05) << ::testing::PrintToString(use);
    EXPECT_GE(use.step_of_plan(), 0.95);
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, MemoryOfManyContexts,
                         ::testing::Values(MemoryCase{"qwen3", {.name = "cp2_ring", .cp = 2, .cp_type = "RING"}},
                                           MemoryCase{"llama", {.name = "cp4_ulysses", .cp = 4, .cp_type = "ULYSSES"}},
                                           MemoryCase{"deepseek_v2", {.name = "cp4_ring", .cp = 4, .cp_type = "RING"}},
                                           MemoryCase{"deepseek_v2", {.name = "tp2_cp2", .tp = 2, .cp = 2}},
                                           MemoryCase{"gpt_oss",
                                                      {.name = "cp2_ulysses", .cp = 2, .cp_type = "ULYSSES"}},
                                           MemoryCase{"llama4", {.name = "cp2_pp2", .pp = 2, .cp = 2}}),
                         [](const auto& row) { return row.param.model + "__" + row.param.layout.name; });

}  // namespace
}  // namespace shoal
