// SPDX-License-Identifier: Apache-2.0
// Every mistake of a user: exit code 2, one line on standard error (or a summary and one line per problem), nothing on standard output.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/run_shoal.h"

namespace shoal::cli {
namespace {

using testing::HasSubstr;

struct Mistake {
  const char* name;
  std::vector<std::string> arguments;
  const char* said;
};

class OneLineErrors : public testing::TestWithParam<Mistake> {};

TEST_P(OneLineErrors, ExitCodeTwo) {
  const Outcome outcome = run_shoal(GetParam().arguments);
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  const std::vector<std::string> lines = outcome.errors();
  ASSERT_LE(lines.size(), 2u) << outcome.err;  // a summary and its one problem, where there might have been more
  EXPECT_THAT(lines[0], testing::StartsWith("shoal: error: "));
  if (lines.size() == 2) {
    EXPECT_THAT(lines[1], testing::StartsWith("  - "));
  }
  EXPECT_THAT(outcome.err, HasSubstr(GetParam().said));
}

INSTANTIATE_TEST_SUITE_P(
    Mistakes, OneLineErrors,
    testing::Values(
        Mistake{"no_command", {}, "no command is given"},
        Mistake{"unknown_command", {"generat", kTiny}, "no command generat; the nearest is generate"},
        Mistake{"bench_of_nothing", {"bench"}, "bench is one of throughput"},
        Mistake{"serve_no_such_model", {"serve", "models/none", "--port", "0"}, "models/none"},
        Mistake{"serve_half_of_tls", {"serve", kTiny, "--tls-cert", "x.pem"}, "--tls-key"},
        Mistake{"serve_no_certificate",
                {"serve", kTiny, "--port", "0", "--tls-cert", "x.pem", "--tls-key", "y.pem"},
                "x.pem"},
        Mistake{"serve_wrong_fault", {"serve", kTiny, "--port", "0", "--inject", "rank=1"}, "--inject rank=1"},
        Mistake{"serve_wrong_port", {"serve", kTiny, "--port", "99999"}, "--port"},
        Mistake{"serve_no_key_file", {"serve", kTiny, "--port", "0", "--api-key-file", "none.txt"}, "none.txt"},
        Mistake{
            "serve_no_such_host", {"serve", kTiny, "--port", "0", "--host", "256.1.1.1"}, "cannot listen on 256.1.1.1"},
        Mistake{
            "serve_wrong_layout", {"serve", kTiny, "--port", "0", "--tp", "3", "--ep", "2"}, "tensor_parallel_size"},
        Mistake{"no_model", {"generate", "--prompt", "x"}, "MODEL"},
        Mistake{"no_such_model", {"generate", "models/none", "--prompt", "x"}, "models/none"},
        Mistake{"no_prompt", {"generate", kTiny}, "no prompt"},
        Mistake{"misspelt_flag", {"generate", kTiny, "--prompt", "x", "--max-token", "3"}, "--max-tokens"},
        Mistake{"misspelt_layout_flag",
                {"generate", kTiny, "--prompt", "x", "--tensor-paralel-size", "3"},
                "tensor-parallel-size"},
        Mistake{"not_a_number", {"generate", kTiny, "--prompt", "x", "--max-tokens", "many"}, "many"},
        Mistake{
            "temperature_below_zero", {"generate", kTiny, "--prompt", "x", "--temperature", "-1"}, "temperature is -1"},
        Mistake{"no_tokens_wanted", {"generate", kTiny, "--prompt", "x", "--max-tokens", "0"}, "max_tokens is 0"},
        Mistake{
            "longer_than_the_model", {"generate", kTiny, "--prompt", "x", "--max-tokens", "5000"}, "max_seq_len 2048"},
        Mistake{"cache_too_small",
                {"generate", kTiny, "--prompt", "x", "--max-tokens", "100", "--kv-cache-max-tokens", "32"},
                "KV pages"},
        Mistake{"no_such_config", {"explain", kTiny, "--config", "none.yaml"}, "none.yaml"},
        Mistake{"no_such_prompts", {"generate", kTiny, "--prompts", "none.json"}, "none.json"},
        Mistake{"score_without_output", {"score", kTiny, "--input", "none.json"}, "--output"}),
    [](const auto& mistake) { return std::string(mistake.param.name); });

TEST(Errors, PromptFiles) {
  const Scratch scratch;
  const auto said = [&](const std::string& text) {
    const Outcome outcome = run_shoal({"generate", kTiny, "--prompts", scratch.file("prompts.json", text), "--quiet"});
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_EQ(outcome.errors().size(), 1u) << outcome.err;
    return outcome.err;
  };
  EXPECT_THAT(said("{"), HasSubstr("prompts.json"));
  EXPECT_THAT(said("[]"), HasSubstr(R"({"prompts": [...]})"));
  EXPECT_THAT(said(R"({"prompts": []})"), HasSubstr("no prompt"));
  EXPECT_THAT(said(R"({"prompts": [[1, "two"]]})"), HasSubstr("prompt 0: \"two\" is no token id"));
  EXPECT_THAT(said(R"({"prompts": [17]})"), HasSubstr("must be a list of token ids"));
  EXPECT_THAT(said(R"({"prompts": [[]]})"), HasSubstr("no tokens"));
  EXPECT_THAT(said(R"({"prompts": [[1, 4096]]})"), HasSubstr("4096"));
  EXPECT_THAT(said(R"({"prompts": [[1.5]]})"), HasSubstr("1.5 is no token id"));
  EXPECT_THAT(said(R"({"prompts": [[99999999999]]})"), HasSubstr("99999999999 is no token id"));
}

TEST(Errors, EveryProblemAtOnce) {
  const Outcome outcome =
      run_shoal({"explain", kTiny, "--tp", "3", "--moe-tp", "2", "--ep", "2", "--max-seq-len", "0"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_GE(outcome.errors().size(), 3u) << outcome.err;  // the summary and a line for each
}

TEST(Errors, VariablesAreReadAndChecked) {
  EXPECT_EQ(run_shoal({"explain", kTiny}, {{"SHOAL_TP", "2"}}).code, 0);
  EXPECT_THAT(run_shoal({"explain", kTiny, "--json"}, {{"SHOAL_TP", "2"}}).out, HasSubstr("\"world_size\":2"));
  const Outcome wrong = run_shoal({"explain", kTiny}, {{"SHOAL_TP", "two"}});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("SHOAL_TP"));
}

TEST(Errors, HelpAndVersionAreNoErrors) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--help"}, {"--version"}, {"generate", "--help"}, {"explain", "--help"}}) {
    const Outcome outcome = run_shoal(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_NE(outcome.out, "");
    EXPECT_EQ(outcome.err, "");
  }
  EXPECT_THAT(run_shoal({"generate", "--help"}).out,
              testing::AllOf(HasSubstr("--max-tokens"), HasSubstr("--tensor-parallel-size")));
}

TEST(Errors, DamagedWeights) {
  const Scratch scratch;
  const std::filesystem::path model = scratch.path("model");
  std::filesystem::copy(kTiny, model);
  std::filesystem::resize_file(model / "model-00002-of-00003.safetensors", 100000);
  const Outcome cut = run_shoal({"generate", model.string(), "--prompt", "x"});
  EXPECT_EQ(cut.code, 2) << cut.err;
  EXPECT_THAT(cut.err, HasSubstr("model-00002-of-00003.safetensors"));
  std::filesystem::remove(model / "model-00002-of-00003.safetensors");
  const Outcome missing = run_shoal({"generate", model.string(), "--prompt", "x"});
  EXPECT_EQ(missing.code, 2) << missing.err;
  EXPECT_THAT(missing.err, HasSubstr("model-00002-of-00003.safetensors"));
}

}  // namespace
}  // namespace shoal::cli
