// SPDX-License-Identifier: Apache-2.0
// Slots and replicas change who computes an expert, never the result: any placement that a grid can hold, on every class of layout, gives
// the same logits; bit for bit with `deterministic`, else within rounding. With context parallelism the bits are those of the same layout.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "engine/engine.h"
#include "tests/parity/layouts.h"
#include "tests/support/golden.h"

namespace shoal {
namespace {

using Logits = std::vector<std::vector<float>>;

constexpr float kTolerance = 2e-4f;

std::filesystem::path model_dir(const std::string& model) { return std::filesystem::path("tests/golden") / model; }

// One of every class: expert parallel alone, hybrid, with attention data parallel of either kind, pipeline, replicas, context parallel.
const std::vector<Layout>& slot_layouts() {
  static const std::vector<Layout> table = {
      {"ep4", 4, 1, 1, 0, 4},
      {"moe_tp2_ep2", 4, 1, 1, 2, 2},
      {"adp4_ep4", 4, 1, 1, 1, 4, 4},
      {"tp4_adp2_ep4", 4, 1, 1, 1, 4, 2},
      {"adp4_moe_tp2_ep2", 4, 1, 1, 2, 2, 4},
      {"adp2_pp3_ep2", 2, 3, 1, 1, 2, 2},
      {"dp2_tp2_ep2", 2, 1, 2, 1, 2},
      {.name = "cp2_pp2_moe_tp2", .pp = 2, .moe_tp = 2, .ep = 1, .cp = 2},
      {.name = "adp2_cp2_ep4", .tp = 2, .ep = 4, .attention_dp = 2, .cp = 2},
  };
  return table;
}

// Every expert somewhere, the other slots at random: copies side by side on one rank, and empty slots, included.
LoadBalancerConfig random_slots(const ModelSpec& spec, int64_t ep, std::mt19937& random) {
  LoadBalancerConfig config;
  for (size_t layer = 0; layer < spec.layers.size(); ++layer) {
    if (!spec.layers[layer].moe) continue;
    const int64_t experts = spec.layers[layer].moe->experts;
    if (!config.num_slots) config.num_slots = (experts + ep - 1) / ep * ep + ep * static_cast<int64_t>(random() % 3);
    std::vector<int32_t> slots;
    for (int32_t expert = 0; expert < experts; ++expert) slots.push_back(expert);
    while (std::ssize(slots) < *config.num_slots) slots.push_back(static_cast<int32_t>(random() % (experts + 1)) - 1);
    std::shuffle(slots.begin(), slots.end(), random);
    config.initial_global_assignments[static_cast<int64_t>(layer)] = slots;
  }
  return config;
}

class Slots : public ::testing::TestWithParam<std::string> {
 protected:
  static EngineConfig config(const Layout& layout, bool deterministic) {
    EngineConfig result = config_of(layout, "float32");
    result.deterministic = deterministic;
    return result;
  }
  static Logits scored(const EngineConfig& config) {
    std::vector<std::vector<int32_t>> prompts;
    for (const GoldenCase& c : load_golden(model_dir(GetParam()))) prompts.push_back(c.prompt);
    return Engine(model_dir(GetParam()), config).score(prompts);
  }
};

size_t different_bits(const Logits& a, const Logits& b) {
  size_t count = 0;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < a[i].size(); ++j) count += std::memcmp(&a[i][j], &b[i][j], sizeof(float)) != 0;
  return count;
}

TEST_P(Slots, AnyPlacementGivesTheSameBitsWhenDeterministic) {
  const ModelSpec spec = load_model_spec(model_dir(GetParam()));
  const Logits one = scored(config({"one"}, true));
  std::mt19937 random(1);
  for (const Layout& layout : slot_layouts()) {
    EngineConfig slots = config(layout, true);
    slots.moe.load_balancer = random_slots(spec, slots.grid().moe_expert, random);
    EXPECT_EQ(different_bits(layout.cp > 1 ? scored(config(layout, true)) : one, scored(slots)), 0u) << layout.name;
  }
}

TEST_P(Slots, AnyPlacementStaysWithinRounding) {
  const ModelSpec spec = load_model_spec(model_dir(GetParam()));
  const std::vector<GoldenCase> cases = load_golden(model_dir(GetParam()));
  std::mt19937 random(2);
  for (const Layout& layout : slot_layouts()) {
    EngineConfig slots = config(layout, false);
    slots.moe.load_balancer = random_slots(spec, slots.grid().moe_expert, random);
    slots.moe.max_num_tokens = random() % 2 == 0 ? 0 : 13;  // several calls, each with a split of its own
    const Logits logits = scored(slots);
    float worst = 0;
    for (size_t i = 0; i < cases.size(); ++i) {
      const int64_t last = std::min<int64_t>(cases[i].strict_rows, std::ssize(cases[i].prompt));
      for (int64_t row = cases[i].first_row; row < last; ++row)
        for (int64_t v = 0; v < cases[i].vocab; ++v)
          worst = std::max(worst, std::fabs(logits[i][row * cases[i].vocab + v] -
                                            cases[i].logits[(row - cases[i].first_row) * cases[i].vocab + v]));
    }
    EXPECT_LT(worst, kTolerance) << layout.name;
  }
}

INSTANTIATE_TEST_SUITE_P(MoeModels, Slots, ::testing::ValuesIn(moe_models()),
                         [](const auto& row) { return row.param; });

}  // namespace
}  // namespace shoal
