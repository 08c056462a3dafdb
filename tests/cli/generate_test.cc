// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/run_shoal.h"

namespace shoal::cli {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

const json& golden() {
  static const json document = json::parse(std::ifstream("models/shoal-tiny/golden.json"));
  return document;
}

// Tokens that the reference is sure of: as far as each margin is wide enough for rounding to leave it alone.
size_t sure_tokens(const json& greedy, double margin) {
  size_t count = 0;
  while (count < greedy.size() && greedy[count]["margin"] > margin) ++count;
  return count;
}

std::string prompts_file(const Scratch& scratch, const json& prompts) {
  return scratch.file("prompts.json", json{{"prompts", prompts}}.dump());
}

const std::vector<std::string> kFourRanks = {"--tp", "4", "--adp", "--ep", "4"};

Outcome generate(std::vector<std::string> more) {
  std::vector<std::string> arguments = {"generate", kTiny};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_shoal(arguments);
}

TEST(Generate, JsonHasTheContractsKeys) {
  const Scratch scratch;
  const Outcome outcome = generate(
      {"--prompts", prompts_file(scratch, json::parse("[[1, 768, 272], \"Hello\"]")), "--max-tokens", "4", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::vector<json> objects = outcome.objects();
  ASSERT_EQ(objects.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : objects[i].items()) keys.push_back(key);
    EXPECT_THAT(keys, testing::UnorderedElementsAre("index", "prompt_token_ids", "token_ids", "text", "finish_reason",
                                                    "logprobs"));
    EXPECT_EQ(objects[i]["index"], i);
    EXPECT_EQ(objects[i]["token_ids"].size(), 4u);
    EXPECT_EQ(objects[i]["finish_reason"], "length");
    ASSERT_EQ(objects[i]["logprobs"].size(), 4u);
    for (const json& logprob : objects[i]["logprobs"]) EXPECT_TRUE(logprob.is_number() && logprob <= 0.0);
  }
  EXPECT_EQ(objects[0]["prompt_token_ids"], json::parse("[1, 768, 272]"));
}

TEST(Generate, Float32FollowsTheReferenceOnOneAndOnFourRanks) {
  const Scratch scratch;
  json prompts = json::array();
  for (const json& item : golden()["cases"]) prompts.push_back(item["prompt"]);
  const std::string file = prompts_file(scratch, prompts);
  for (const std::vector<std::string>& layout : {std::vector<std::string>{}, kFourRanks}) {
    std::vector<std::string> arguments = {"--prompts", file, "--max-tokens", "48", "--dtype", "float32", "--json"};
    arguments.insert(arguments.end(), layout.begin(), layout.end());
    const Outcome outcome = generate(arguments);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const std::vector<json> objects = outcome.objects();
    ASSERT_EQ(objects.size(), golden()["cases"].size());
    for (size_t i = 0; i < objects.size(); ++i) {
      const json& greedy = golden()["cases"][i]["greedy"];
      const size_t sure = sure_tokens(greedy, 1e-2);
      ASSERT_GE(objects[i]["token_ids"].size(), sure);
      for (size_t k = 0; k < sure; ++k) {
        EXPECT_EQ(objects[i]["token_ids"][k], greedy[k]["token"]) << "case " << i << ", token " << k;
        EXPECT_NEAR(objects[i]["logprobs"][k].get<double>(), greedy[k]["logprob"].get<double>(), 2e-4)
            << "case " << i << ", token " << k;
      }
      const bool ends = sure == greedy.size() && sure < 48;
      EXPECT_EQ(objects[i]["finish_reason"] == "stop", ends || objects[i]["token_ids"].size() < 48) << "case " << i;
    }
  }
}

TEST(Generate, TextStreamsToStandardOutputAndTheRestToStandardError) {
  const Outcome streamed =
      generate({"--prompt", "<|bos|>In the beginning God created", "--max-tokens", "12", "--dtype", "float32"});
  ASSERT_EQ(streamed.code, 0) << streamed.err;
  const std::string expected = golden()["cases"][0]["text"];
  ASSERT_GT(streamed.out.size(), 10u);
  EXPECT_EQ(streamed.out.back(), '\n');
  EXPECT_EQ(expected.substr(0, streamed.out.size() - 1), streamed.out.substr(0, streamed.out.size() - 1));
  EXPECT_THAT(streamed.err, AllOf(HasSubstr("layout "), HasSubstr("1 rank"), HasSubstr("tokens/s"),
                                  HasSubstr("max/mean"), HasSubstr("float32")));
  const Outcome whole = generate({"--prompt", "<|bos|>In the beginning God created", "--max-tokens", "12", "--dtype",
                                  "float32", "--no-stream", "--quiet"});
  EXPECT_EQ(whole.out, streamed.out);
  EXPECT_EQ(whole.err, "");
}

TEST(Generate, ChatUsesTheTemplateAndEndsAtTheEndToken) {
  const Outcome outcome = generate({"--chat", "Define river.", "--json", "--dtype", "float32", "--quiet"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json object = outcome.objects().at(0);
  EXPECT_EQ(object["prompt_token_ids"], json::parse("[1, 2, 536, 3619, 19, 5, 3]"));
  EXPECT_EQ(object["finish_reason"], "stop");
  EXPECT_EQ(object["token_ids"].back(), 5);
  const Scratch scratch;
  const json messages = {{{"messages", {{{"role", "user"}, {"content", "Define river."}}}}}};
  const Outcome file =
      generate({"--prompts", prompts_file(scratch, messages), "--json", "--dtype", "float32", "--quiet"});
  ASSERT_EQ(file.code, 0) << file.err;
  EXPECT_EQ(file.objects().at(0)["token_ids"], object["token_ids"]);
}

TEST(Generate, SeveralPromptsInOrderLabelled) {
  const Outcome outcome =
      generate({"--prompt", "And it came", "--prompt", "The SELECT", "--chat", "Define river.", "--max-tokens", "3"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("--- prompt 1 of 3 (And it came)"),
                                 HasSubstr("--- prompt 3 of 3 (chat: Define river.)")));
}

TEST(Generate, SeedGivesTheSameTextInEveryLayout) {
  const std::vector<std::string> base = {"--prompt",      "And it came to pass",
                                         "--temperature", "0.9",
                                         "--top-p",       "0.95",
                                         "--seed",        "7",
                                         "--max-tokens",  "24",
                                         "--json",        "--quiet",
                                         "--dtype",       "float32"};
  std::string first;
  for (const std::vector<std::string>& layout :
       {std::vector<std::string>{}, {"--tp", "2"}, {"--pp", "2"}, kFourRanks}) {
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), layout.begin(), layout.end());
    const Outcome outcome = generate(arguments);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const std::string ids = outcome.objects().at(0)["token_ids"].dump();
    if (first.empty()) first = ids;
    EXPECT_EQ(ids, first);
  }
  std::vector<std::string> other = base;
  other[7] = "8";
  EXPECT_NE(generate(other).objects().at(0)["token_ids"].dump(), first);
}

TEST(Generate, StopStringsCutTheText) {
  const std::vector<std::string> base = {
      "--prompt", "<|bos|>In the beginning God created", "--max-tokens", "12", "--quiet", "--json", "--dtype",
      "float32"};
  const std::string text = generate(base).objects().at(0)["text"];
  const std::string stop = text.substr(8, 3);
  std::vector<std::string> stopping = base;
  stopping.insert(stopping.end(), {"--stop", stop, "--stop", "never said"});
  const json object = generate(stopping).objects().at(0);
  EXPECT_EQ(object["text"], text.substr(0, text.find(stop)));
  EXPECT_EQ(object["finish_reason"], "stop");
}

TEST(Generate, AlternativesWithLogprobs) {
  const json object =
      generate({"--prompt", "Hello", "--max-tokens", "2", "--logprobs", "3", "--json", "--quiet"}).objects().at(0);
  ASSERT_EQ(object["top_logprobs"].size(), 2u);
  ASSERT_EQ(object["top_logprobs"][0].size(), 3u);
  EXPECT_EQ(object["top_logprobs"][0][0]["token_id"], object["token_ids"][0]);
  EXPECT_EQ(object["top_logprobs"][0][0]["logprob"], object["logprobs"][0]);
}

TEST(Generate, ExpertLoadByRank) {
  std::vector<std::string> arguments = {"--prompt", "And it came to pass", "--max-tokens", "4"};
  arguments.insert(arguments.end(), kFourRanks.begin(), kFourRanks.end());
  const Outcome outcome = generate(arguments);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (int rank = 0; rank < 4; ++rank) EXPECT_THAT(outcome.err, HasSubstr("ep " + std::to_string(rank)));
}

}  // namespace
}  // namespace shoal::cli
