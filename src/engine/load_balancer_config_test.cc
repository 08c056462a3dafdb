// SPDX-License-Identifier: Apache-2.0
#include "engine/load_balancer_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace shoal {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> problems_of(const std::string& text) {
  std::vector<std::string> problems;
  parse_load_balancer(parse_yaml(text, "F"), "F", problems);
  return problems;
}

LoadBalancerConfig parsed(const std::string& text) {
  std::vector<std::string> problems;
  LoadBalancerConfig config = parse_load_balancer(parse_yaml(text, "F"), "F", problems);
  EXPECT_THAT(problems, IsEmpty());
  return config;
}

TEST(LoadBalancerConfig, ReadsWhatTheReferenceWrites) {
  const LoadBalancerConfig config = parsed(
      "initial_global_assignments:\n  3: [0, 1, 2, 3, 0, 2]\n  4: [3, 2, 1, 0, 1, 3]\nlayer_updates_per_iter: "
      "0\nnum_slots: 6\n");
  EXPECT_EQ(config.num_slots, 6);
  EXPECT_EQ(config.layer_updates_per_iter, 0);
  EXPECT_EQ(config.initial_global_assignments.at(4), (std::vector<int32_t>{3, 2, 1, 0, 1, 3}));
  EXPECT_EQ(config.max_stall_ms, 1);
}

TEST(LoadBalancerConfig, WritesWhatItReads) {
  LoadBalancerConfig config;
  config.num_slots = 4;
  config.ep_size = 2;
  config.layer_updates_per_iter = 3;
  config.max_stall_ms = 2.5;
  config.initial_global_assignments[7] = {0, 1, 2, -1};
  const std::string text = load_balancer_yaml(config);
  EXPECT_EQ(
      text,
      "ep_size: 2\ninitial_global_assignments:\n  7: [0, 1, 2, -1]\nlayer_updates_per_iter: 3\nmax_stall_ms: 2.5\n"
      "num_slots: 4\n");
  EXPECT_EQ(load_balancer_yaml(parsed(text)), text);
}

TEST(LoadBalancerConfig, SaysEverythingThatIsWrong) {
  EXPECT_THAT(problems_of("num_slot: 4\nlayer_updates_per_iter: -1\nmax_stall_ms: often\nep_size: [2]\n"
                          "initial_global_assignments: {x: [0], 3: 7, 4: [0, one], 5: [0, 1, 2]}\n"),
              ElementsAre(AllOf(HasSubstr("num_slot (F:1)"), HasSubstr("nearest known is num_slots")),
                          AllOf(HasSubstr("'-1' (F:2)"), HasSubstr("from 0 to")), HasSubstr("'often' (F:3)"),
                          HasSubstr("ep_size (F:4) is a list or map"), HasSubstr("layer 'x' (F:5)"),
                          HasSubstr("layer 3 (F:5) must be a list"), HasSubstr("layer 4 (F:5): slot 1"),
                          HasSubstr("num_slots is missing")));
  EXPECT_THAT(problems_of("num_slots: 4\ninitial_global_assignments:\n  5: [0, 1, 2]\n"),
              ElementsAre(AllOf(HasSubstr("layer 5 (F:3) lists 3 slots"), HasSubstr("num_slots 4"))));
  EXPECT_THAT(problems_of("[1, 2]"), ElementsAre(HasSubstr("must be a map")));
  EXPECT_THROW(read_load_balancer("none.yaml"), Error);
}

TEST(LoadBalancerConfig, LastOfEqualKeysCounts) {
  const LoadBalancerConfig config = parsed("num_slots: 4\nnum_slots: 8\n");
  EXPECT_EQ(config.num_slots, 8);
  EXPECT_THAT(config.notices, ElementsAre(HasSubstr("num_slots is given on lines 1 and 2")));
}

std::vector<std::string> misfits(const std::string& text, const MoeShape& shape) {
  std::vector<std::string> ignored;
  return load_balancer_problems(parsed(text), shape, ignored);
}

TEST(LoadBalancerConfig, FitsAModelOrSaysWhyNot) {
  const MoeShape shape{.experts = 4, .ep = 2, .layers = {1, 2}, .model_layers = 3};
  EXPECT_THAT(misfits("num_slots: 6", shape), IsEmpty());
  EXPECT_THAT(misfits("layer_updates_per_iter: 2", shape), IsEmpty());
  EXPECT_THAT(misfits("num_slots: 5", shape), ElementsAre(AllOf(HasSubstr("num_slots"), HasSubstr("nearest: 4 or 6"))));
  EXPECT_THAT(misfits("num_slots: 2", shape), ElementsAre(HasSubstr("at least one each")));
  EXPECT_THAT(misfits("num_slots: 4\nep_size: 4\n"
                      "initial_global_assignments: {1: [0, 1, 2, 9], 2: [0, 1, 1, -1], 0: [0, 1, 2, 3]}",
                      shape),
              ElementsAre(HasSubstr("ep_size is 4"), HasSubstr("layer 1: slot 3 holds expert 9"),
                          HasSubstr("layer 2: no slot holds expert 2, 3"), HasSubstr("layer 0 has no experts")));
  EXPECT_THAT(misfits("num_slots: 6", {.experts = 0, .ep = 2, .layers = {}}), ElementsAre(HasSubstr("no experts")));
}

// The reference raises where a layer is missing, and plans made with multi-token prediction have a layer more.
TEST(LoadBalancerConfig, ListsEveryLayerOrNone) {
  const MoeShape shape{.experts = 4, .ep = 2, .layers = {1, 2, 3}, .model_layers = 4};
  EXPECT_THAT(misfits("num_slots: 4\ninitial_global_assignments: {2: [0, 1, 2, 3]}", shape),
              ElementsAre(AllOf(HasSubstr("layer 1, 3 is not listed"), HasSubstr("all 3 layers"))));
  std::vector<std::string> notices;
  EXPECT_THAT(load_balancer_problems(parsed("num_slots: 4\ninitial_global_assignments: {1: [0, 1, 2, 3], 2: [0, 1, 2, "
                                            "3], 3: [0, 1, 2, 3], 4: [3, 2, 1, 0]}"),
                                     shape, notices),
              IsEmpty());
  EXPECT_THAT(notices, ElementsAre(HasSubstr("layer 4 is not used, the model has 4")));
}

TEST(LoadBalancerConfig, DefaultPlacementRunsOnFromEachRanksShare) {
  const MoeShape shape{.experts = 4, .ep = 2, .layers = {1}};
  const auto experts = [&](const std::string& text) {
    std::vector<int> list;
    const Placement placement = initial_placement(parsed(text), 1, shape);
    for (int32_t slot = 0; slot < placement.slots(); ++slot) list.push_back(placement.expert({slot}).value);
    return list;
  };
  EXPECT_THAT(experts("num_slots: 4"), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(experts("num_slots: 6"), ElementsAre(0, 1, 2, 2, 3, 0));
  EXPECT_THAT(experts("num_slots: 4\ninitial_global_assignments: {1: [3, 1, 0, 2]}"), ElementsAre(3, 1, 0, 2));
  for (int64_t ranks = 1; ranks < 20; ++ranks) {  // holds every expert, or throws
    const MoeShape odd{.experts = 13, .ep = ranks, .layers = {0}};
    EXPECT_EQ(initial_placement({}, 0, odd).slots(), (13 + ranks - 1) / ranks * ranks);
  }
}

}  // namespace
}  // namespace shoal
