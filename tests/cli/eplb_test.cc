// SPDX-License-Identifier: Apache-2.0
// The offline tools as a user runs them, on recorded loads of the tiny model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "engine/expert_statistics.h"
#include "engine/load_balancer_config.h"
#include "tests/cli/run_shoal.h"

namespace shoal::cli {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr const char* kGo = "tests/traces/shoal_tiny/go";
constexpr const char* kChat = "tests/traces/shoal_tiny/chat";

Outcome eplb(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"eplb"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_shoal(arguments);
}

json eplb_json(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = more;
  arguments.emplace_back("--json");
  const Outcome outcome = eplb(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  return json::parse(outcome.out);
}

void expect_refused(const std::vector<std::string>& arguments, const std::string& said) {
  const Outcome outcome = eplb(arguments);
  EXPECT_EQ(outcome.code, 2) << outcome.out;
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr(said));
}

// Two ranks' files: three experts on two layers, one iteration, small enough to work out by hand.
std::string small_statistics(const Scratch& scratch) {
  const std::string path = scratch.path("statistics");
  start_statistics(path, {.num_experts = 4, .num_experts_per_token = 2}, 2);
  write_statistics(
      path, StatisticsFile::kCounts, 0,
      {{5, 1, {4}, {1, 2, 3, 0}}, {5, 2, {4}, {4, 0, 0, 2}}, {6, 1, {4}, {0, 0, 0, 6}}, {6, 2, {4}, {1, 2, 2, 1}}});
  write_statistics(
      path, StatisticsFile::kCounts, 1,
      {{5, 1, {4}, {3, 0, 3, 0}}, {5, 2, {4}, {4, 2, 0, 0}}, {6, 1, {4}, {2, 2, 2, 0}}, {6, 2, {4}, {2, 1, 1, 2}}});
  write_statistics(path, StatisticsFile::kTokenSelections, 0,
                   {{5, 1, {3, 2}, {0, 1, 1, 2, 2, 3}}, {5, 2, {1, 2}, {0, 3}}});
  return path;
}

TEST(EplbReport, MeansAreTakenByIteration) {
  const Scratch scratch;
  const std::string path = small_statistics(scratch);
  const json report = eplb_json({"report", "--expert_statistic_path", path});
  EXPECT_EQ(report["ep_size"], 2);
  // Layer 1: ranks {6, 6} then {4, 8}; sample deviations 0 and sqrt(8).
  EXPECT_EQ(report["layers"][0]["layer"], 1);
  EXPECT_DOUBLE_EQ(report["layers"][0]["mean"], 6);
  EXPECT_NEAR(report["layers"][0]["std"], std::sqrt(8.0) / 2, 1e-12);
  EXPECT_NEAR(report["layers"][0]["imbalance_ratio"], (0 + 8.0 / 6 - 1) / 2, 1e-12);
  // Layer 2: {10, 2}, {6, 6}.
  EXPECT_NEAR(report["layers"][1]["imbalance_ratio"], (10.0 / 6 - 1) / 2, 1e-12);
  EXPECT_NEAR(report["average"]["imbalance_ratio"], (1.0 / 6 + 1.0 / 3) / 2, 1e-12);
  const json experts = eplb_json({"report", "--expert_statistic_path", path, "--per_expert", "--iter-stop", "6"});
  EXPECT_NEAR(experts["layers"][0]["imbalance_ratio"], 6.0 / 3 - 1, 1e-12);  // experts {4, 2, 6, 0}
}

TEST(EplbReport, PrintsTheReferencesTable) {
  const Outcome outcome = eplb({"report", "--expert_statistic_path", kGo, "--ep_size", "8"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, testing::StartsWith("Load statistics:\n"));
  EXPECT_THAT(outcome.out, testing::ContainsRegex("\n7 +1024.000000 +[0-9.]+ +[0-9.]+\naverage +1024.000000 "));
}

TEST(EplbReport, ProjectsAPlacement) {
  const Scratch scratch;
  const std::string path = small_statistics(scratch);
  const std::string file = scratch.file("placement.yaml",
                                        "num_slots: 6\ninitial_global_assignments:\n  1: [0, 1, 2, 2, 3, 0]\n"
                                        "  2: [0, 1, 2, 0, 3, 1]\n");
  const json report = eplb_json({"report", "--expert_statistic_path", path, "--projection_eplb_config_path", file});
  // Layer 1, iteration 5: experts {4, 2, 6, 0} leave {2 + 2 + 3, 3 + 0 + 2}; iteration 6: {2, 2, 2, 6} leave {4, 8}.
  EXPECT_NEAR(report["layers"][0]["imbalance_ratio"], (7.0 / 6 - 1 + 8.0 / 6 - 1) / 2, 1e-12);
  const std::string wrong = scratch.file("wrong.yaml", "num_slots: 5\n");
  expect_refused({"report", "--expert_statistic_path", path, "--projection_eplb_config_path", wrong},
                 "nearest: 4 or 6");
}

TEST(EplbReport, PairsAndSendRanks) {
  const Scratch scratch;
  const std::string path = small_statistics(scratch);
  // Tokens (0, 1), (1, 2), (2, 3) on ranks {0, 1} and {2, 3}; layer 2: (0, 3).
  const json pairs = eplb_json({"report", "--cooccurrence", "--expert_statistic_path", path, "--iter_stop", "6"});
  EXPECT_EQ(pairs["layers"][0]["within_rank_cnt"], 2);
  EXPECT_EQ(pairs["layers"][0]["between_rank_cnt"], 1);
  EXPECT_EQ(pairs["layers"][1]["within_rank_ratio"], 0);
  const json sends = eplb_json({"report_send_ranks_per_token", "--expert_statistic_path", path, "--iter_stop", "6"});
  EXPECT_NEAR(sends["layers"][0]["num_send_ranks_per_token"], 4.0 / 3, 1e-12);
  EXPECT_EQ(sends["layers"][1]["num_send_ranks_per_token"], 2);
}

TEST(EplbGenerate, WritesWhatTheReportCanRead) {
  const Scratch scratch;
  const std::string file = scratch.path("moe_load_balancer.yaml");
  const json plan = eplb_json({"generate", "--expert_statistic_path", kGo, "--ep_size", "8", "--num-slots", "40",
                               "--output_path", file, "--layer_updates_per_iter", "2", "--nodes", "2"});
  EXPECT_EQ(plan["num_slots"], 40);
  EXPECT_EQ(plan["layers"].size(), 7u);
  const LoadBalancerConfig config = read_load_balancer(file);
  EXPECT_EQ(config.layer_updates_per_iter, 2);
  EXPECT_EQ(config.initial_global_assignments.size(), 7u);
  for (const json& layer : plan["layers"]) {
    EXPECT_LT(layer["imbalance_split"], 0.02);
    EXPECT_GT(layer["imbalance_before"], 0.3);
  }
  const json before = eplb_json({"report", "--expert_statistic_path", kGo, "--ep_size", "8"});
  const json after =
      eplb_json({"report", "--expert_statistic_path", kGo, "--ep_size", "8", "--projection_eplb_config_path", file});
  EXPECT_LT(after["average"]["imbalance_ratio"], 0.5 * before["average"]["imbalance_ratio"].get<double>());
}

TEST(Eplb, HostileInputIsRefused) {
  const Scratch scratch;
  const std::string file = scratch.path("plan.yaml");
  for (const int64_t count : {int64_t{-1}, int64_t{1} << 62}) {  // sums of the second would run over
    const std::string path = scratch.path("damaged" + std::to_string(count));
    start_statistics(path, {.num_experts = 2, .num_experts_per_token = 1}, 1);
    write_statistics(path, StatisticsFile::kCounts, 0, {{0, 3, {2}, {count, 2}}, {1, 3, {2}, {count, 2}}});
    expect_refused({"report", "--expert_statistic_path", path, "--ep_size", "2"},
                   "holds " + std::to_string(count) + ", must be from 0");
  }
  const std::vector<std::string> generate = {"generate", "--expert_statistic_path", kGo, "--ep_size",
                                             "8",        "--output_path",           file};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), generate.begin(), generate.end());
    return more;
  };
  expect_refused(with({"--alpha", "0.5"}), "--cooccurrence");
  expect_refused(with({"--cooccurrence", "--alpha", "nan"}), "nan must be a number from 0 to 1");
  expect_refused(with({"--nodes", "0"}), "--nodes");
  expect_refused(with({"--nodes", "3"}), "3 nodes, must be a divisor of the expert-parallel size 8");
  expect_refused(with({"--nodes", "99999999999999999999"}), "99999999999999999999");
  expect_refused({"simulate", "--expert_statistic_path", kGo, "--ep_size", "8", "--drift", "nan"}, "from 0 to 5");
  expect_refused({"simulate", "--expert_statistic_path", kGo, "--ep_size", "8", "--concentration", "inf"}, "inf must");
}

TEST(EplbGenerate, CooccurrenceKeepsCompanionsTogether) {
  const Scratch scratch;
  const std::string path = scratch.path("pairs");
  start_statistics(path, {.num_experts = 4, .num_experts_per_token = 2}, 1);
  write_statistics(path, StatisticsFile::kCounts, 0, {{0, 3, {4}, {2, 2, 2, 2}}});
  write_statistics(path, StatisticsFile::kTokenSelections, 0, {{0, 3, {4, 2}, {0, 2, 1, 3, 2, 0, 3, 1}}});
  const std::string file = scratch.path("together.yaml");
  const std::vector<std::string> report = {"report", "--cooccurrence", "--expert_statistic_path",
                                           path,     "--ep_size",      "2"};
  EXPECT_EQ(eplb_json(report)["average"]["within_rank_ratio"], 0);
  eplb_json({"generate", "--cooccurrence", "--alpha", "1", "--expert_statistic_path", path, "--ep_size", "2",
             "--output_path", file});
  EXPECT_EQ(read_load_balancer(file).ep_size, 2);
  const json pairs = eplb_json({"report", "--cooccurrence", "--expert_statistic_path", path,  // knows ep_size
                                "--projection_eplb_config_path", file});
  EXPECT_EQ(pairs["average"]["within_rank_ratio"], 1);
}

TEST(EplbSimulate, ComparesPolicies) {
  const Scratch scratch;
  const std::string picture = scratch.path("loads.svg");
  const json result = eplb_json({"simulate", "--expert_statistic_path", kGo, "--expert_statistic_path", kChat,
                                 "--ep_size", "8", "--num_slots", "40", "--svg", picture, "--expert_mb", "10"});
  std::map<std::string, json> go;
  for (const json& row : result["workloads"]) {
    if (row["workload"] == "go") go[row["policy"]] = row;
  }
  EXPECT_GT(go.at("none")["mean_imbalance"], 0.5);
  EXPECT_LT(go.at("published greedy")["mean_imbalance"], 0.1);
  EXPECT_LT(go.at("shoal")["mean_imbalance"], 0.002);
  EXPECT_LT(go.at("shoal")["batch_imbalance"], 0.5 * go.at("published greedy")["batch_imbalance"].get<double>());
  std::map<std::string, json> moved;
  for (const json& row : result["switches"]) moved[row["policy"]] = row;
  EXPECT_EQ(result["switches"].size(), 3u);
  EXPECT_EQ(moved.at("none")["copies_per_layer"], 0);
  EXPECT_GT(moved.at("published greedy")["copies_per_layer"], 20);
  EXPECT_LT(moved.at("shoal")["copies_per_layer"], 10);
  EXPECT_LE(moved.at("shoal")["mean_imbalance"], 0.02);
  EXPECT_GT(moved.at("shoal")["move_ms"], 0);
  std::ifstream in(picture);
  const std::string svg((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  EXPECT_THAT(svg, testing::AllOf(testing::StartsWith("<svg"), HasSubstr("published greedy"), HasSubstr("</svg>")));
}

// Each window is met with the placements that the one before has left: judged by what they were not made from.
TEST(EplbSimulate, WindowsFollowEachOther) {
  const auto rows = [](const std::string& plan_batches) {
    const json result = eplb_json({"simulate", "--expert_statistic_path", kGo, "--ep_size", "8", "--num_slots", "40",
                                   "--window", "25", "--plan_batches", plan_batches});
    EXPECT_EQ(result["workloads"].size(), 3u * 4);
    std::map<std::string, double> stale;
    for (const json& row : result["switches"]) stale[row["policy"]] += row["stale_batch_imbalance"].get<double>() / 3;
    EXPECT_EQ(result["switches"][0]["from"], "go[0]");
    EXPECT_EQ(result["switches"][0]["to"], "go[25]");
    return stale;
  };
  std::map<std::string, double> blind = rows("0");
  std::map<std::string, double> shown = rows("8");
  EXPECT_EQ(blind["published greedy"], shown["published greedy"]);
  EXPECT_LT(blind["shoal"], 0.7 * blind["published greedy"]);
  EXPECT_LT(shown["shoal"], blind["shoal"]);
}

TEST(EplbSimulate, DriftFollowsItsWorkload) {
  const json result =
      eplb_json({"simulate", "--expert_statistic_path", kGo, "--ep_size", "4", "--num_slots", "40", "--drift", "0.1"});
  ASSERT_EQ(result["switches"].size(), 3u);
  EXPECT_EQ(result["switches"][0]["to"], "go drifted");
  EXPECT_GT(result["switches"][1]["stale_mean_imbalance"], result["workloads"][3]["mean_imbalance"]);
}

TEST(EplbSimulate, NodesShowTheHierarchicalPolicy) {
  const json result = eplb_json({"simulate", "--expert_statistic_path", kGo, "--ep_size", "8", "--num_slots", "40",
                                 "--nodes", "2", "--groups", "4"});
  std::set<std::string> policies;
  for (const json& row : result["workloads"]) policies.insert(row["policy"].get<std::string>());
  EXPECT_TRUE(policies.contains("published hierarchical"));
}

TEST(Eplb, SaysWhatIsWrong) {
  const Scratch scratch;
  expect_refused({}, "one of report, ");
  expect_refused({"reprot"}, "reprot");
  expect_refused({"report"}, "--expert_statistic_path");
  expect_refused({"report", "--expert_statistic_path", "none"}, "give a directory");
  expect_refused({"report", "--expert_statistic_path", kGo}, "give --ep_size");
  expect_refused({"report", "--expert_statistic_path", kGo, "--ep_size", "33"}, "from 1 to the 32 experts");
  expect_refused({"report", "--expert_statistic_path", kGo, "--tp", "4"}, "--tp");
  expect_refused({"report", "--expert_statistic_path", kGo, "--config", "x.yaml"}, "no --config");
  expect_refused({"report", "--expert_statistic_path", kGo, "--ep_size", "4", "--iter_start", "500"}, "no iteration");
  expect_refused({"generate", "--expert_statistic_path", kGo, "--ep_size", "8"}, "--output_path");
  expect_refused({"generate", "--expert_statistic_path", kGo, "--ep_size", "8", "--num_slots", "36", "--nodes", "3",
                  "--output_path", scratch.path("x")},
                 "nearest: 32 or 40");
  expect_refused({"generate", "--expert_statistic_path", kGo, "--ep_size", "8", "--output_path", "none/x"},
                 "cannot be written");
  expect_refused({"generate", "--cooccurrence", "--expert_statistic_path", kGo, "--ep_size", "8", "--output_path",
                  scratch.path("x")},
                 "token_selected_experts");
  expect_refused({"simulate", "--expert_statistic_path", kGo, "--expert_statistic_path", small_statistics(scratch),
                  "--ep_size", "2"},
                 "must be of one model");
  expect_refused({"simulate", "--expert_statistic_path", kGo, "--ep_size", "0"}, "must be at least 1");
  EXPECT_EQ(eplb({"--help"}).code, 0);
  EXPECT_THAT(eplb({"simulate", "--help"}).out, HasSubstr("--num_slots"));
}

}  // namespace
}  // namespace shoal::cli
