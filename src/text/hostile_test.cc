// SPDX-License-Identifier: Apache-2.0
// Tokenizer files and texts made to break things: each is refused with an Error, or answered, in good time.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "text/tokenizer.h"

namespace shoal {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

Json minimal() {
  return Json::parse(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "aa": 3, "aaaa": 4},
                         "merges": ["a b", "a a", "aa aa"]}})");
}

Tokenizer with(const std::string& part, const Json& value) {
  Json json = minimal();
  json[Json::json_pointer(part)] = value;
  return Tokenizer::parse(json.dump());
}

void expect_refused(const std::string& part, const Json& value) {
  EXPECT_THROW(with(part, value), Error) << part << " " << value;
}

TEST(Hostile, FilesThatAreNotTokenizers) {
  const std::string deep = std::string(100000, '[');
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("{}"),
        std::string("{\"model\": 3}"), std::string("{\"model\": {\"vocab\": 3, \"merges\": []}}"), deep,
        std::string("{\"model\": {\"vocab\": {}}}"), std::string("\xFF\xFE{}")})
    EXPECT_THROW(Tokenizer::parse(text), Error) << text.substr(0, 60);
  EXPECT_THROW(Tokenizer::load("/nonexistent"), Error);
  EXPECT_THROW(Tokenizer::parse(minimal().dump(), "[1]"), Error);
}

TEST(Hostile, ModelsThatContradictThemselves) {
  expect_refused("/model/vocab", {{"a", -1}});
  expect_refused("/model/vocab", {{"a", 1e18}});
  expect_refused("/model/vocab", {{"a", "x"}});
  expect_refused("/model/vocab", {{"a", 0}, {"b", 0}, {"ab", 2}, {"aa", 3}, {"aaaa", 4}});
  expect_refused("/model/merges", {"a z"});
  expect_refused("/model/merges", {"b a"});
  expect_refused("/model/merges", {"a"});
  expect_refused("/model/merges", {Json::array({"a"})});
  expect_refused("/model/merges", {7});
  expect_refused("/model/unk_token", "nowhere");
  expect_refused("/model/type", "Unigram");
  expect_refused("/model/byte_fallback", "yes");
  expect_refused("/added_tokens", 5);
  expect_refused("/added_tokens", {{{"content", "x"}}});
  expect_refused("/added_tokens", {{{"content", "x"}, {"id", 1e12}}});
  expect_refused("/normalizer", {{"type", "Precompiled"}});
  expect_refused("/decoder", {{"type", "WordPiece"}});
  expect_refused("/pre_tokenizer", {{"type", "Split"}});
  expect_refused("/post_processor", {{"type", "TemplateProcessing"}, {"single", {{{"SpecialToken", {{"id", "x"}}}}}}});
}

TEST(Hostile, PartsNestedTooDeep) {
  Json step = {{"type", "NFC"}};
  for (int i = 0; i < 600; ++i) step = {{"type", "Sequence"}, {"normalizers", {step}}};
  expect_refused("/normalizer", step);
}

TEST(Hostile, MalformedAndExplodingPatterns) {
  const auto split = [](const std::string& regex) {
    return Json{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}};
  };
  for (const char* regex :
       {"(", "[a", "a{99999999}", "\\p{Nonsense}", "((((((a{999}){999}){999}){999}){999}){999})", "[a&&[b]", "\\"})
    expect_refused("/pre_tokenizer", split(regex));
  expect_refused("/pre_tokenizer", split(std::string(10000, '(')));
  expect_refused("/pre_tokenizer", split(std::string(10000, '[')));
  const Tokenizer exploding = with("/pre_tokenizer", split("(a|aa)+[xy]"));
  EXPECT_THROW(exploding.encode(std::string(5000, 'a') + "b", false), Error);
}

TEST(Hostile, EmptyVocabularyAndCyclicMerges) {
  Json json = minimal();
  json["model"]["vocab"] = Json::object();
  json["model"]["merges"] = Json::array();
  const Tokenizer empty = Tokenizer::parse(json.dump());
  EXPECT_EQ(empty.vocab_size(), 0);
  EXPECT_EQ(empty.encode("anything", true), Ids{});
  EXPECT_EQ(empty.decode(Ids{0, -5}, false), "\uFFFD \uFFFD");
  // Merges whose results feed each other, and a pair merged twice.
  const Tokenizer cyclic = with("/model/merges", {"a a", "a b", "aa aa", "a a", "aa aa"});
  EXPECT_EQ(cyclic.encode("aaaab", false), (Ids{3, 0, 2}));  // the later of equal merges counts, so "a b" comes first
}

TEST(Hostile, LongWordsAreNotQuadratic) {
  const Tokenizer tokenizer = Tokenizer::parse(minimal().dump());
  const auto begin = std::chrono::steady_clock::now();
  const Ids ids = tokenizer.encode(std::string(1 << 20, 'a'), false);
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(ids, Ids(1 << 18, 4));
  EXPECT_LT(took, std::chrono::seconds(60));  // a quadratic merge would take hours
}

TEST(Hostile, ManyThreadsShareOneTokenizer) {
  const Tokenizer tokenizer = Tokenizer::load("models/shoal-tiny");
  const std::string text = "It's 12 o'clock, caf\u00e9 \u4F60\u597D!\n\n  <|user|>x";
  const Ids expected = tokenizer.encode(text, true);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i)
        wrong[t] += tokenizer.encode(text, true) != expected || tokenizer.decode(expected, false) != text;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace shoal
