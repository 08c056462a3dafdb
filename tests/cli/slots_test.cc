// SPDX-License-Identifier: Apache-2.0
// Slots of experts as a user meets them: recorded, planned, shown, run, and refused where they do not fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/run_shoal.h"

namespace shoal::cli {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

std::vector<std::string> with(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

const std::vector<std::string> kLayout = {"--tp", "4", "--adp", "--ep", "4", "--kv-cache-max-tokens", "2048"};

TEST(Slots, ExplainShowsThemAndWhatTheyWeigh) {
  const Scratch scratch;
  const auto explain = [&](const std::string& balancer) {
    const Outcome outcome = run_shoal(
        with({"explain", kTiny, "--json", "--moe-load-balancer", scratch.file("slots.yaml", balancer)}, kLayout));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return json::parse(outcome.out)["ranks"][3];
  };
  const json plain = explain("num_slots: 32\n"), more = explain("num_slots: 40\n");
  const json moving = explain("num_slots: 40\nlayer_updates_per_iter: 1\n");
  EXPECT_EQ(plain["experts"]["7"], json::parse("[24, 25, 26, 27, 28, 29, 30, 31]"));
  EXPECT_EQ(more["experts"]["7"], json::parse("[24, 25, 26, 27, 28, 29, 30, 31, 0, 1]"));
  // Seven layers with two experts more; while they may move, room for one layer's slots.
  const int64_t expert = (more["weight_bytes"].get<int64_t>() - plain["weight_bytes"].get<int64_t>()) / 14;
  EXPECT_GT(expert, 0);
  EXPECT_EQ(moving["weight_bytes"].get<int64_t>() - more["weight_bytes"].get<int64_t>(), 10 * expert);
}

TEST(Slots, WhatDoesNotFitIsRefusedAtOnce) {
  const Scratch scratch;
  const Outcome outcome = run_shoal(with({"generate", kTiny, "--prompt", "a", "--moe-load-balancer",
                                          scratch.file("slots.yaml",
                                                       "num_slots: 34\nep_size: 8\n"
                                                       "initial_global_assignments: {0: [0]}\n")},
                                         kLayout));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("layer 0 ("));
  EXPECT_THAT(outcome.err, HasSubstr("must be num_slots 34"));
  const Outcome model = run_shoal(with({"generate", kTiny, "--prompt", "a", "--moe-load-balancer",
                                        scratch.file("model.yaml", "num_slots: 34\nep_size: 8\n")},
                                       kLayout));
  EXPECT_EQ(model.code, 2);
  EXPECT_THAT(model.err,
              AllOf(HasSubstr("34 slots, must be a multiple of the expert-parallel size 4; nearest: 32 or 36"),
                    HasSubstr("ep_size is 8, must be moe_expert_parallel_size 4")));
}

// The reference's own way: record with its variables, plan from the files, run with the plan. The answers stay the same.
TEST(Slots, RecordedPlannedAndRun) {
  const Scratch scratch;
  const std::string statistics = scratch.path("statistics"), plan = scratch.path("moe_load_balancer.yaml");
  const std::vector<std::string> generate = with({"generate", kTiny, "--json", "--deterministic", "--prompt",
                                                  "In the beginning God", "--max-tokens", "24", "--ignore-eos"},
                                                 kLayout);
  const Outcome first = run_shoal(generate, {{"EXPERT_STATISTIC_ITER_RANGE", "1-20"},
                                             {"EXPERT_STATISTIC_PATH", statistics},
                                             {"EXPERT_STATISTIC_TOKEN_SELECTIONS", "true"}});
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(first.err, HasSubstr("experts of 19 steps of 1-20"));
  const Outcome planned = run_shoal({"eplb", "generate", "--expert_statistic_path", statistics, "--ep_size", "4",
                                     "--num_slots", "40", "--output_path", plan, "--layer_updates_per_iter", "1"});
  ASSERT_EQ(planned.code, 0) << planned.err;
  const Outcome second = run_shoal(with(generate, {"--moe-load-balancer", plan}));
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_THAT(second.err, HasSubstr("moves    replica 0"));
  EXPECT_EQ(first.objects(), second.objects());
  // Of the 19 tokens: four different experts each, on at least one and at most four ranks.
  const Outcome sends = run_shoal(
      {"eplb", "report_send_ranks_per_token", "--expert_statistic_path", statistics, "--ep_size", "4", "--json"});
  ASSERT_EQ(sends.code, 0) << sends.err;
  const json layers = json::parse(sends.out)["layers"];
  EXPECT_EQ(layers.size(), 7u);
  for (const json& layer : layers) EXPECT_NEAR(layer["num_send_ranks_per_token"].get<double>(), 2.5, 1.5);
  const Outcome pairs =
      run_shoal({"eplb", "generate", "--cooccurrence", "--expert_statistic_path", statistics, "--output_path", plan});
  EXPECT_EQ(pairs.code, 0) << pairs.err;
}

}  // namespace
}  // namespace shoal::cli
