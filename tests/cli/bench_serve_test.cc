// SPDX-License-Identifier: Apache-2.0
// shoal bench serve against a server that does as it is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/mock_openai.h"
#include "tests/cli/run_shoal.h"

namespace shoal::cli {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kVllmKeys[] = {"date",
                                     "endpoint_type",
                                     "backend",
                                     "label",
                                     "model_id",
                                     "tokenizer_id",
                                     "num_prompts",
                                     "request_rate",
                                     "burstiness",
                                     "max_concurrency",
                                     "duration",
                                     "completed",
                                     "failed",
                                     "total_input_tokens",
                                     "total_output_tokens",
                                     "request_throughput",
                                     "request_goodput",
                                     "output_throughput",
                                     "total_token_throughput",
                                     "max_output_tokens_per_s",
                                     "max_concurrent_requests",
                                     "mean_ttft_ms",
                                     "median_ttft_ms",
                                     "std_ttft_ms",
                                     "p99_ttft_ms",
                                     "mean_tpot_ms",
                                     "p99_tpot_ms",
                                     "mean_itl_ms",
                                     "p99_itl_ms",
                                     "mean_e2el_ms",
                                     "p50_e2el_ms",
                                     "input_lens",
                                     "output_lens",
                                     "ttfts",
                                     "itls",
                                     "generated_texts",
                                     "errors",
                                     "start_times"};

class BenchServe : public testing::Test {
 protected:
  Outcome serve(const MockOpenAi& server, std::vector<std::string> more,
                const std::map<std::string, std::string>& environment = {}) {
    std::vector<std::string> arguments = {"bench",
                                          "serve",
                                          "--base-url",
                                          server.url(),
                                          "--quiet",
                                          "--result-dir",
                                          scratch_.path("results"),
                                          "--result-filename",
                                          "result.json",
                                          "--save-detailed",
                                          "--random-input-len",
                                          "12",
                                          "--random-output-len",
                                          "4"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_shoal(arguments, environment);
  }
  json result() const { return json::parse(std::ifstream(scratch_.path("results/result.json")), nullptr, false); }
  json run(const MockOpenAi& server, std::vector<std::string> more) {
    const Outcome outcome = serve(server, std::move(more));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return result();
  }

  Scratch scratch_;
};

TEST_F(BenchServe, KeysOfVllm) {
  MockOpenAi server({});
  const json report =
      run(server, {"--num-prompts", "20", "--goodput", "ttft:5000", "tpot:5000", "--metadata", "tp=4", "note=x"});
  ASSERT_TRUE(report.is_object());
  for (const char* key : kVllmKeys) EXPECT_TRUE(report.contains(key)) << key;
  EXPECT_EQ(report["completed"], 20);
  EXPECT_EQ(report["failed"], 0);
  EXPECT_EQ(report["model_id"], "mock-model");
  EXPECT_EQ(report["request_rate"], "inf");
  EXPECT_EQ(report["total_output_tokens"], 80);
  EXPECT_EQ(report["total_input_tokens"], 200) << "the server's count wins";
  EXPECT_EQ(report["request_goodput"], report["request_throughput"]);
  EXPECT_EQ(report["tp"], "4");
  EXPECT_EQ(report["note"], "x");
  EXPECT_EQ(report["generated_texts"][0], "tok tok tok tok ");
  const json asked = server.asked()[0];
  EXPECT_EQ(asked["prompt"].size(), 12u);
  EXPECT_EQ(asked["max_tokens"], 4);
  EXPECT_EQ(asked["ignore_eos"], true);
  EXPECT_EQ(asked["stream_options"]["include_usage"], true);
}

TEST_F(BenchServe, TimesAreTheServers) {
  MockOpenAi server({.first_token_ms = 60, .token_ms = 20});
  const json report = run(server, {"--num-prompts", "4", "--max-concurrency", "1"});
  ASSERT_TRUE(report.is_object());
  // Lower bounds only: the machine may be slow, never fast.
  EXPECT_GE(report["p50_ttft_ms"], 59);
  EXPECT_GE(report["mean_tpot_ms"], 19);
  EXPECT_GE(report["mean_itl_ms"], 19) << "tokens are seen as they come, not all at the end";
  EXPECT_GE(report["mean_e2el_ms"], 118);
  EXPECT_EQ(report["max_concurrent_requests"], 1);
  EXPECT_EQ(server.most_at_once(), 1);
}

TEST_F(BenchServe, BrokenStreamsAreFailures) {
  const Manner manners[] = {Manner::kProper,      Manner::kNoDone,  Manner::kNoFinish, Manner::kBreaksOff,
                            Manner::kErrorObject, Manner::kRefuses, Manner::kNotJson,  Manner::kPlainError};
  MockOpenAi server({.manner = [&](size_t index) { return manners[index % 8]; }});
  const Outcome outcome = serve(server, {"--num-prompts", "16", "--max-concurrency", "1"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json report = result();
  EXPECT_EQ(report["completed"], 2);
  EXPECT_EQ(report["failed"], 14);
  EXPECT_EQ(report["total_output_tokens"], 8);
  EXPECT_EQ(report["errors"][0], "");
  EXPECT_THAT(report["errors"][1], HasSubstr("without [DONE]"));
  EXPECT_THAT(report["errors"][2], HasSubstr("no finish_reason"));
  EXPECT_THAT(report["errors"][3], HasSubstr("closed the connection"));
  EXPECT_THAT(report["errors"][4], HasSubstr("rank 1 was lost"));
  EXPECT_THAT(report["errors"][5], AllOf(HasSubstr("429"), HasSubstr("queue is full")));
  EXPECT_THAT(report["errors"][6], HasSubstr("nonsense"));
  EXPECT_THAT(report["errors"][7], HasSubstr("broke off"));
  EXPECT_THAT(outcome.out, HasSubstr("14 of 16 requests failed"));
}

TEST_F(BenchServe, NothingSucceeded) {
  MockOpenAi server({.manner = [](size_t) { return Manner::kRefuses; }});
  const Outcome outcome = serve(server, {"--num-prompts", "3"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("no request succeeded"));
}

TEST_F(BenchServe, ChatsKeysAndWarnings) {
  MockOpenAi server({.manner = [](size_t index) { return index == 0 ? Manner::kNoUsage : Manner::kProper; },
                     .cached_tokens = 5,
                     .key = "secret"});
  const Outcome refused = serve(server, {"--num-prompts", "2"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("401"), HasSubstr("a key is needed")));
  const Outcome outcome = serve(server,
                                {"--backend", "openai-chat", "--num-prompts", "5", "--temperature", "0.5",
                                 "--extra-body", R"({"top_k": 3})", "--max-concurrency", "1"},
                                {{"OPENAI_API_KEY", "secret"}});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json asked = server.asked()[0];
  EXPECT_EQ(asked["messages"][0]["content"], "some words of text");
  EXPECT_EQ(asked["max_completion_tokens"], 4);
  EXPECT_EQ(asked["temperature"], 0.5);
  EXPECT_EQ(asked["top_k"], 3);
  EXPECT_EQ(result()["output_lens"][0], 4) << "chunks stand for tokens where usage is missing";
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("prefix cache"), HasSubstr("1 answers had no usage"), HasSubstr("p99 of 5 requests")));
}

TEST_F(BenchServe, ManyAtOnceAndSweeps) {
  MockOpenAi server({.first_token_ms = 300});
  json report = run(server, {"--num-prompts", "200"});
  EXPECT_EQ(report["completed"], 200);
  EXPECT_GE(report["max_concurrent_requests"], 150);
  const Outcome outcome =
      serve(server, {"--num-prompts", "4", "--sweep", "concurrency=1,4", "--html", scratch_.path("report.html")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::ifstream lines(scratch_.path("results/result.json"));
  std::vector<json> runs;
  for (std::string line; std::getline(lines, line);) runs.push_back(json::parse(line));
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0]["max_concurrent_requests"], 1);
  EXPECT_EQ(runs[1]["max_concurrency"], 4);
  EXPECT_NE(server.asked()[200]["prompt"], server.asked()[204]["prompt"]) << "each run has prompts of its own";
  std::ostringstream html;
  html << std::ifstream(scratch_.path("report.html")).rdbuf();
  EXPECT_THAT(html.str(),
              AllOf(HasSubstr("<svg"), HasSubstr("All runs"), Not(HasSubstr("<script")), Not(HasSubstr("src="))));
}

TEST_F(BenchServe, FindsARate) {
  MockOpenAi server({.first_token_ms = 5});
  const Outcome outcome = serve(server, {"--num-prompts", "5", "--find-rate", "p99_ttft_ms<=60000,failed<=0"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("highest request rate that keeps the bounds"));
  const Outcome none = serve(server, {"--num-prompts", "2", "--find-rate", "p99_ttft_ms<=0.001"});
  ASSERT_EQ(none.code, 0) << none.err;
  EXPECT_THAT(none.out, HasSubstr("no request rate down to"));
}

TEST_F(BenchServe, Mistakes) {
  MockOpenAi server({});
  const auto said = [&](std::vector<std::string> more) {
    const Outcome outcome = serve(server, std::move(more));
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    return outcome.err;
  };
  EXPECT_THAT(said({"--burstiness", "0", "--request-rate", "-1", "--metric-percentiles", "50,101", "--goodput", "itl:3",
                    "--header", "x"}),
              AllOf(HasSubstr("--burstiness is 0"), HasSubstr("--request-rate is -1"), HasSubstr("101"),
                    HasSubstr("itl:3"), HasSubstr("KEY=VALUE")));
  EXPECT_THAT(said({"--backend", "grpc"}), HasSubstr("openai-chat"));
  const Outcome scheme = run_shoal({"bench", "serve", "--base-url", "ftp://localhost"});
  EXPECT_EQ(scheme.code, 2);
  EXPECT_THAT(scheme.err, HasSubstr("http:// or https://"));
  EXPECT_THAT(said({"--find-rate", "fast"}), HasSubstr("p99_ttft_ms<=500"));
  EXPECT_THAT(said({"--find-rate", "p98_ttft_ms<=5", "--num-prompts", "1"}), HasSubstr("p98_ttft_ms"));
  EXPECT_THAT(said({"--extra-body", "[1]"}), HasSubstr("--extra-body"));
  EXPECT_THAT(said({"--sweep", "layout=tp4"}), HasSubstr("concurrency=1,4,16"));
  EXPECT_THAT(said({"--tp", "2"}), HasSubstr("--tp"));
  EXPECT_THAT(said({"--dataset-name", "sharegpt"}), HasSubstr("--dataset-path"));
  const Outcome nobody = run_shoal({"bench", "serve", "--base-url", "http://127.0.0.1:1", "--quiet"});
  EXPECT_EQ(nobody.code, 1);
  EXPECT_THAT(nobody.err, HasSubstr("is the server running there?"));
}

}  // namespace
}  // namespace shoal::cli
