// SPDX-License-Identifier: Apache-2.0
// shoal bench throughput and latency: what their reports hold, and which mistakes they name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/run_shoal.h"

namespace shoal::cli {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

// Short runs: what is tested is the report, not the machine.
Outcome bench(const std::string& command, std::vector<std::string> more) {
  std::vector<std::string> arguments = {"bench", command, kTiny, "--quiet", "--threads-per-rank", "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_shoal(arguments);
}

json report_of(const Scratch& scratch, const std::string& command, std::vector<std::string> more) {
  more.insert(more.end(), {"--report_json", scratch.path("report.json")});
  const Outcome outcome = bench(command, more);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  return json::parse(std::ifstream(scratch.path("report.json")), nullptr, false);
}

const std::vector<std::string> kShort = {"--num-requests",      "6", "--random-input-len", "20",
                                         "--random-output-len", "5", "--warmup",           "1"};

std::vector<std::string> short_run(std::vector<std::string> more) {
  more.insert(more.begin(), kShort.begin(), kShort.end());
  return more;
}

void expect_keys(const json& object, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) EXPECT_TRUE(object.contains(key)) << key << " is not in " << object.dump();
}

TEST(BenchThroughput, ReportHasTheKeysOfTrtllmBench) {
  const Scratch scratch;
  const json report = report_of(scratch, "throughput", short_run({"--tp", "2", "--ep", "2", "--adp"}));
  ASSERT_TRUE(report.is_object());
  expect_keys(report["engine"],
              {"model", "model_path", "engine_dir", "version", "backend", "dtype", "kv_cache_dtype", "quantization"});
  expect_keys(report["machine"], {"name", "memory.total", "clocks.mem"});
  expect_keys(report["world_info"], {"tp_size", "pp_size", "ep_size", "world_size", "max_batch_size", "max_num_tokens",
                                     "scheduling_policy", "kv_cache_percentage", "issue_rate"});
  expect_keys(report["request_info"],
              {"num_requests", "avg_num_concurrent_requests", "avg_input_length", "avg_output_length"});
  expect_keys(report["performance"], {"total_latency_ms", "avg_request_latency_ms", "request_throughput_req_s",
                                      "system_output_throughput_tok_s", "system_total_throughput_tok_s",
                                      "output_throughput_per_user_tok_s", "output_throughput_per_gpu_tok_s"});
  expect_keys(report["streaming_metrics"], {"token_output_speed_tok_s", "avg_ttft_ms", "avg_tpot_ms"});
  const std::vector<std::string> spread = {"p50", "p90", "p95", "p99", "minimum", "maximum", "average"};
  expect_keys(report["performance"]["request_latency_percentiles_ms"], spread);
  for (const char* key : {"tpot_percentiles", "ttft_percentiles", "gen_tps_percentiles"})
    expect_keys(report["streaming_metrics"][key], spread);
  for (const char* key : {"isl_stats", "osl_stats", "seq_len_stats"}) expect_keys(report["dataset"][key], spread);
  expect_keys(report["dataset"], {"num_requests", "dataset_path", "max_isl", "max_osl", "max_sequence_length",
                                  "avg_isl", "avg_osl", "avg_sequence_length"});
}

TEST(BenchThroughput, FiguresAgreeWithEachOther) {
  const Scratch scratch;
  const json report = report_of(scratch, "throughput", short_run({"--tp", "2", "--ep", "2", "--adp"}));
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report["world_info"]["tp_size"], 2);
  EXPECT_EQ(report["world_info"]["ep_size"], 2);
  EXPECT_EQ(report["world_info"]["attention_dp_size"], 2);
  EXPECT_EQ(report["request_info"]["num_requests"], 6);
  EXPECT_EQ(report["request_info"]["avg_input_length"], 20);
  EXPECT_EQ(report["request_info"]["avg_output_length"], 5);
  const double seconds = report["performance"]["total_latency_ms"].get<double>() / 1e3;
  EXPECT_NEAR(report["performance"]["system_output_throughput_tok_s"], 30 / seconds, 1e-6 / seconds);
  EXPECT_NEAR(report["performance"]["system_total_throughput_tok_s"], 150 / seconds, 1e-6 / seconds);
  EXPECT_NEAR(report["performance"]["output_throughput_per_gpu_tok_s"], 15 / seconds, 1e-6 / seconds);
  ASSERT_EQ(report["ranks"].size(), 2u);
  for (const json& rank : report["ranks"]) {
    EXPECT_NEAR(rank["compute_share"].get<double>() + rank["communication_share"].get<double>() +
                    rank["stage_share"].get<double>() + rank["idle_share"].get<double>(),
                1, 1e-9);
    EXPECT_GT(rank["steps"], 0);
  }
  // 7 MoE layers, each token in 4 experts: prompts and all but the last generated token.
  ASSERT_EQ(report["experts"]["layers"].size(), 7u);
  for (const json& layer : report["experts"]["layers"]) {
    const json& tokens = layer["rank_tokens"];
    EXPECT_EQ(tokens[0].get<int64_t>() + tokens[1].get<int64_t>(), 4 * 6 * (20 + 4));
    EXPECT_GE(layer["max_over_mean"], 1);
  }
  EXPECT_GT(report["cache"]["total_pages"], 0);
  EXPECT_EQ(report["cache"]["preemptions"], 0);
  EXPECT_EQ(report["cache"]["prefix_cache_hit_share"], 0) << "warm-up requests share nothing with the measured ones";
}

TEST(BenchThroughput, DatasetOfTrtllmBench) {
  const Scratch scratch;
  const std::string data = scratch.file("data.jsonl", R"({"task_id": 0, "prompt": "The river", "output_tokens": 3}
{"task_id": 1, "input_ids": [5, 6, 7], "output_tokens": 4}
{"task_id": 2, "logits": [8], "output_tokens": 2}
)");
  const json report = report_of(
      scratch, "throughput",
      {"--dataset", data, "--request_json", scratch.path("requests.json"), "--concurrency", "1", "--dtype", "float32"});
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report["dataset"]["dataset_path"], data);
  EXPECT_EQ(report["dataset"]["max_osl"], 4);
  EXPECT_EQ(report["request_info"]["total_output_tokens"], 9);
  EXPECT_LE(report["request_info"]["avg_num_concurrent_requests"], 1.001);
  const json requests = json::parse(std::ifstream(scratch.path("requests.json")));
  // The same tokens as without a benchmark.
  const Outcome alone = run_shoal({"generate", kTiny, "--prompt", "The river", "--max-tokens", "3", "--json", "--quiet",
                                   "--dtype", "float32", "--ignore-eos"});
  ASSERT_EQ(alone.code, 0) << alone.err;
  EXPECT_EQ(requests[0]["token_ids"], alone.objects()[0]["token_ids"]);
  EXPECT_EQ(requests[0]["num_input_tokens"], alone.objects()[0]["prompt_token_ids"].size());
}

TEST(BenchThroughput, DummyWeightsNeedNoWeightFiles) {
  const Scratch scratch;
  std::filesystem::create_directory(scratch.path("model"));
  std::filesystem::copy_file("models/shoal-tiny/config.json", scratch.path("model/config.json"));
  const Outcome outcome =
      run_shoal({"bench", "throughput", scratch.path("model"), "--load-format", "dummy", "--num-prompts", "2",
                 "--input-len", "8", "--output-len", "2", "--warmup", "0", "--quiet", "--pp", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("output throughput (tokens/s)"), HasSubstr("2 ranks"), HasSubstr("p99 of 2 requests")));
}

TEST(BenchLatency, OneRequestAtATime) {
  const Scratch scratch;
  const json report = report_of(scratch, "latency", short_run({}));
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report["benchmark"], "latency");
  EXPECT_EQ(report["request_info"]["concurrency"], 1);
  EXPECT_LE(report["request_info"]["avg_num_concurrent_requests"], 1.001);
}

TEST(BenchErrors, EachIsNamed) {
  const Scratch scratch;
  const auto said = [](const Outcome& outcome) {
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  };
  EXPECT_THAT(said(run_shoal({"bench"})), HasSubstr("bench is one of throughput, latency, serve, compare"));
  EXPECT_THAT(said(run_shoal({"bench", "throughput"})), HasSubstr("--model is required"));
  EXPECT_THAT(said(bench("throughput", {"--num-request", "3"})), HasSubstr("--num-requests"));
  EXPECT_THAT(said(bench("throughput", {"--random-input-len", "0", "--random-range-ratio", "1.5", "--warmup", "-1"})),
              AllOf(HasSubstr("--random-input-len is 0"), HasSubstr("--random-range-ratio is 1.5"),
                    HasSubstr("--warmup is -1")));
  EXPECT_THAT(said(bench("throughput", {"--dataset-name", "imagenet"})),
              AllOf(HasSubstr("imagenet"), HasSubstr("sharegpt")));
  EXPECT_THAT(said(bench("throughput", {"--dataset", "none.jsonl"})), HasSubstr("none.jsonl"));
  EXPECT_THAT(said(bench("throughput", {"--dataset", scratch.file("bad.jsonl", "{}\n{\n")})),
              HasSubstr("2 of 2 lines"));
  EXPECT_THAT(
      said(bench("throughput", {"--num-requests", "6", "--random-input-len", "3000", "--random-output-len", "5"})),
      AllOf(HasSubstr("6 of 6 requests cannot run"), HasSubstr("max_seq_len")));
  EXPECT_THAT(said(bench("throughput", short_run({"--tp", "3"}))), HasSubstr("3"));
}

}  // namespace
}  // namespace shoal::cli
