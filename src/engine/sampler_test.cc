// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/random.h"
#include "text/tokenizer.h"

namespace shoal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<float> kLogits = {1.0f, 3.0f, 2.0f, 0.0f, 3.0f};

TokenLogprob sample_once(const SamplingParams& params, const std::vector<float>& logits, uint64_t seed = 1) {
  return Sampler(params, seed, {}).sample(logits);
}

// Frequencies of first tokens over many seeds.
std::map<int32_t, double> frequencies(const SamplingParams& params, const std::vector<float>& logits,
                                      int draws = 20000) {
  std::map<int32_t, double> counts;
  for (int seed = 0; seed < draws; ++seed) counts[sample_once(params, logits, seed).token] += 1.0 / draws;
  return counts;
}

TEST(Philox, KnownAnswers) {  // of the paper's reference implementation
  EXPECT_THAT(philox({0, 0, 0, 0}, {0, 0}), ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  EXPECT_THAT(philox({0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}, {0xffffffffu, 0xffffffffu}),
              ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
}

TEST(Philox, UniformFillsTheUnitInterval) {
  double sum = 0, low = 1, high = 0;
  for (uint64_t i = 0; i < 100000; ++i) {
    const double u = uniform(42, i);
    ASSERT_TRUE(u >= 0.0 && u < 1.0);
    sum += u;
    low = std::min(low, u);
    high = std::max(high, u);
  }
  EXPECT_NEAR(sum / 100000, 0.5, 0.005);
  EXPECT_LT(low, 1e-4);
  EXPECT_GT(high, 1 - 1e-4);
}

TEST(Sampler, GreedyTiesGoToTheLowestId) { EXPECT_EQ(sample_once({}, kLogits).token, 1); }

TEST(Sampler, LogprobIsOfTheRawLogits) {
  double sum = 0;
  for (const float logit : kLogits) sum += std::exp(static_cast<double>(logit));
  SamplingParams params{.temperature = 0.5f, .top_k = 1, .presence_penalty = 1.0f, .logprobs = 3};
  const TokenLogprob result = sample_once(params, kLogits);
  EXPECT_EQ(result.token, 1);
  EXPECT_NEAR(result.logprob, 3.0 - std::log(sum), 1e-6);
  ASSERT_EQ(result.top.size(), 3u);
  EXPECT_EQ(result.top[0].first, 1);
  EXPECT_EQ(result.top[1].first, 4);
  EXPECT_EQ(result.top[2].first, 2);
  EXPECT_NEAR(result.top[2].second, 2.0 - std::log(sum), 1e-6);
}

TEST(Sampler, LogprobsSurviveLargeLogits) {
  const TokenLogprob result = sample_once({}, {10000.0f, 9999.0f});
  EXPECT_NEAR(result.logprob, -std::log1p(std::exp(-1.0)), 1e-3);
}

TEST(Sampler, DrawsTheSoftmax) {
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    const auto counts = frequencies({.temperature = temperature}, kLogits);
    double total = 0;
    for (const float logit : kLogits) total += std::exp(logit / temperature);
    for (int32_t id = 0; id < 5; ++id) {
      const double expected = std::exp(kLogits[id] / temperature) / total;
      const auto found = counts.find(id);
      EXPECT_NEAR(found == counts.end() ? 0.0 : found->second, expected, 0.012) << id << " at " << temperature;
    }
  }
}

TEST(Sampler, TopKKeepsTheLikeliestLowestIdFirst) {
  const auto counts = frequencies({.temperature = 1.0f, .top_k = 1}, kLogits, 500);
  EXPECT_THAT(counts, ElementsAre(testing::Key(1)));
  const auto three = frequencies({.temperature = 5.0f, .top_k = 3}, kLogits, 2000);
  EXPECT_THAT(three, ElementsAre(testing::Key(1), testing::Key(2), testing::Key(4)));
  EXPECT_EQ(frequencies({.temperature = 5.0f, .top_k = 99}, kLogits, 2000).size(), 5u);
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.6f), std::log(0.3f)};
  EXPECT_EQ(frequencies({.temperature = 1.0f, .top_p = 0.55f}, logits, 500).size(), 1u);
  const auto two = frequencies({.temperature = 1.0f, .top_p = 0.85f}, logits);
  EXPECT_THAT(two, ElementsAre(testing::Key(1), testing::Key(2)));
  EXPECT_NEAR(two.at(1), 0.6 / 0.9, 0.012);
  EXPECT_EQ(frequencies({.temperature = 1.0f, .top_p = 0.95f}, logits, 2000).size(), 3u);
}

TEST(Sampler, TopPCountsWhatTopKLeft) {
  const std::vector<float> logits = {std::log(0.4f), std::log(0.3f), std::log(0.2f), std::log(0.1f)};
  // Of the two that are left, the first has 4/7.
  EXPECT_EQ(frequencies({.temperature = 1.0f, .top_p = 0.56f, .top_k = 2}, logits, 500).size(), 1u);
  EXPECT_EQ(frequencies({.temperature = 1.0f, .top_p = 0.56f}, logits, 500).size(), 2u);
}

TEST(Sampler, MinPIsRelativeToTheLikeliest) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.6f), std::log(0.3f)};
  EXPECT_EQ(frequencies({.temperature = 1.0f, .min_p = 0.4f}, logits, 500).size(), 2u);
  EXPECT_EQ(frequencies({.temperature = 1.0f, .min_p = 0.6f}, logits, 500).size(), 1u);
  EXPECT_EQ(frequencies({.temperature = 1.0f, .min_p = 1.0f}, logits, 500).size(), 1u);
}

TEST(Sampler, RepetitionPenaltyCountsPromptAndOutput) {
  const std::vector<int32_t> prompt = {1};
  Sampler sampler({.repetition_penalty = 2.0f}, 0, prompt);
  EXPECT_EQ(sampler.sample(kLogits).token, 4);  // 3.0 / 2 for token 1
  EXPECT_EQ(sampler.sample(kLogits).token, 2);  // now 4 too
  const std::vector<float> negative = {-1.0f, -1.5f};
  const std::vector<int32_t> first = {0};
  EXPECT_EQ(Sampler({.repetition_penalty = 2.0f}, 0, first).sample(negative).token, 1);  // -1.0 * 2
}

TEST(Sampler, PresenceAndFrequencyCountTheOutputOnly) {
  const std::vector<int32_t> prompt = {1, 1, 1};
  Sampler presence({.presence_penalty = 1.5f}, 0, prompt);
  EXPECT_EQ(presence.sample(kLogits).token, 1);
  EXPECT_EQ(presence.sample(kLogits).token, 4);
  EXPECT_EQ(presence.sample(kLogits).token, 2);  // 2.0 against 1.5 and 1.5
  EXPECT_EQ(presence.sample(kLogits).token, 1);  // presence does not grow
  Sampler frequency({.frequency_penalty = 0.6f}, 0, prompt);
  std::vector<int32_t> tokens;
  for (int i = 0; i < 6; ++i) tokens.push_back(frequency.sample(kLogits).token);
  EXPECT_THAT(tokens, ElementsAre(1, 4, 1, 4, 2, 1));
}

TEST(Sampler, SameSeedSameTokensWhateverElseIsSampled) {
  const SamplingParams params{.temperature = 1.3f, .top_p = 0.9f};
  Sampler alone(params, 99, {}), together(params, 99, {}), neighbour(params, 5, {});
  std::vector<int32_t> first, second, other;
  for (int i = 0; i < 50; ++i) first.push_back(alone.sample(kLogits).token);
  for (int i = 0; i < 50; ++i) {
    other.push_back(neighbour.sample(kLogits).token);
    second.push_back(together.sample(kLogits).token);
  }
  EXPECT_EQ(first, second);
  EXPECT_NE(first, other);
}

TEST(Sampler, NotANumberIsReportedNotSampled) {
  std::vector<float> logits = kLogits;
  logits[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(sample_once({}, logits).token, -1);
}

TEST(Sampler, MaskedTokensAreNeverDrawn) {
  std::vector<float> logits = kLogits;
  logits[1] = -std::numeric_limits<float>::infinity();
  EXPECT_FALSE(frequencies({.temperature = 2.0f}, logits, 2000).contains(1));
}

TEST(Sampler, TopPOverAFlatRowKeepsAsManyAsItNeeds) {
  std::vector<float> logits(5000, 0.0f);  // far more than are looked at first
  std::map<int32_t, double> counts = frequencies({.temperature = 1.0f, .top_p = 0.5f}, logits, 4000);
  EXPECT_LT(counts.rbegin()->first, 2500);
  EXPECT_GT(counts.rbegin()->first, 2400);
}

TEST(Sampler, LogitBiasMovesTheChoiceButNotTheReportedLogprob) {
  SamplingParams params;
  params.logit_bias = {{0, 50.0f}, {1, -100.0f}, {400, 3.0f}};
  const TokenLogprob biased = sample_once(params, kLogits);
  EXPECT_EQ(biased.token, 0);
  EXPECT_NEAR(biased.logprob, kLogits[0] - log_sum_exp(kLogits), 1e-6);
}

TEST(Sampler, StopTokensWaitForMinTokens) {
  SamplingParams params;
  params.min_tokens = 2;
  const std::vector<int32_t> stops = {1, 4};
  Sampler sampler(params, 0, {}, stops);
  EXPECT_EQ(sampler.sample(kLogits).token, 2);
  EXPECT_EQ(sampler.sample(kLogits).token, 2);
  EXPECT_EQ(sampler.sample(kLogits).token, 1);
}

TEST(Sampler, ConstraintHoldsEveryTokenAndEndsTheText) {
  const Tokenizer tokenizer = Tokenizer::load("models/shoal-tiny");
  GrammarCompiler compiler(tokenizer);
  const int32_t eos = *tokenizer.eos_id();
  for (const float temperature : {0.0f, 1.0f}) {
    SamplingParams params{.temperature = temperature};
    params.constraint =
        compiler.json_schema(R"({"type": "array", "items": {"enum": ["a", "bc"]}, "minItems": 2, "maxItems": 4})");
    const std::vector<int32_t> stops = {eos};
    Sampler sampler(params, 7, {}, stops);
    std::vector<int32_t> tokens;
    std::vector<float> logits(static_cast<size_t>(tokenizer.vocab_size()));
    for (bool ended = false; !ended && tokens.size() < 500;) {
      for (size_t i = 0; i < logits.size(); ++i)
        logits[i] = static_cast<float>((i * 7919 + tokens.size() * 31) % 101) * 0.1f;
      logits[static_cast<size_t>(eos)] = 30.0f;  // wants to end at once
      const TokenLogprob sampled = sampler.sample(logits);
      ASSERT_GE(sampled.token, 0) << sampling_failure(sampled.token);
      ended = sampled.ends_text;
      ASSERT_NE(sampled.token, eos);
      tokens.push_back(sampled.token);
    }
    const auto value = nlohmann::json::parse(tokenizer.decode(tokens, true), nullptr, false);
    ASSERT_TRUE(value.is_array()) << tokenizer.decode(tokens, true);
    EXPECT_GE(value.size(), 2u);
    EXPECT_LE(value.size(), 4u);
  }
}

TEST(Sampler, ConstraintThatMayEndAllowsTheStopToken) {
  const Tokenizer tokenizer = Tokenizer::load("models/shoal-tiny");
  SamplingParams params;
  params.constraint = GrammarCompiler(tokenizer).json_schema(R"({"type": "integer"})");
  const std::vector<int32_t> stops = {*tokenizer.eos_id()};
  Sampler sampler(params, 0, {}, stops);
  std::vector<float> logits(static_cast<size_t>(tokenizer.vocab_size()), 0.0f);
  logits[static_cast<size_t>(stops[0])] = 9.0f;
  EXPECT_NE(sampler.sample(logits).token, stops[0]);  // nothing is written yet
  logits[static_cast<size_t>(*tokenizer.id_of("4"))] = 8.0f;
  while (tokenizer.token_bytes(sampler.sample(logits).token).find_first_of("0123456789") == std::string::npos) {
  }
  EXPECT_EQ(sampler.sample(logits).token, stops[0]);
}

TEST(SamplingProblems, NamesEveryWrongValue) {
  EXPECT_TRUE(sampling_problems({}).empty());
  const SamplingParams wrong{.max_tokens = 0, .temperature = -1.0f, .top_p = 0.0f, .top_k = -2, .stop = {""}};
  EXPECT_THAT(sampling_problems(wrong),
              ElementsAre(HasSubstr("max_tokens is 0"), HasSubstr("temperature is -1"), HasSubstr("top_p is 0"),
                          HasSubstr("top_k is -2"), HasSubstr("empty string")));
  EXPECT_THAT(sampling_problems({.temperature = std::nanf("")}), ElementsAre(HasSubstr("temperature is nan")));
  SamplingParams bias{.max_tokens = 5};
  bias.logit_bias = {{3, 101.0f}};
  bias.min_tokens = 6;
  EXPECT_THAT(sampling_problems(bias),
              ElementsAre(HasSubstr("min_tokens is 6"), HasSubstr("logit_bias of token 3 is 101")));
}

}  // namespace
}  // namespace shoal
