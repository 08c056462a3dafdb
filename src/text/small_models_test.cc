// SPDX-License-Identifier: Apache-2.0
// Handmade tokenizer.json files, one feature each, against what the Hugging Face tokenizers library makes of them
// (tests/tokenizers/small_models.json): SentencePiece style with byte fallback, unknown tokens, added tokens' flags, every split.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<int32_t>;

const Json& models() {
  static const Json file = Json::parse(std::ifstream("tests/tokenizers/small_models.json"));
  return file.at("models");
}

const Json& model(const std::string& name) {
  for (const Json& entry : models())
    if (entry.at("name") == name) return entry;
  throw std::runtime_error("no model " + name);
}

std::string streamed(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
  Detokenizer stream(tokenizer, skip_special);
  std::string text;
  for (const int32_t id : ids) {
    const std::string piece = stream.push(id);
    EXPECT_TRUE(text::is_valid_utf8(piece));
    text += piece;
  }
  return text + stream.finish();
}

void expect_decodes(const Tokenizer& tokenizer, const Json& c) {
  const auto ids = c.at("ids").get<Ids>();
  EXPECT_EQ(tokenizer.decode(ids, false), c.at("decoded").get<std::string>()) << c.at("ids");
  EXPECT_EQ(tokenizer.decode(ids, true), c.at("decoded_skip").get<std::string>()) << c.at("ids");
  EXPECT_EQ(streamed(tokenizer, ids, false), c.at("decoded").get<std::string>()) << c.at("ids");
  EXPECT_EQ(streamed(tokenizer, ids, true), c.at("decoded_skip").get<std::string>()) << c.at("ids");
}

class SmallModel : public testing::TestWithParam<std::string> {};

TEST_P(SmallModel, AgreesWithTheReferenceLibrary) {
  const Json& entry = model(GetParam());
  const Tokenizer tokenizer = Tokenizer::parse(entry.at("tokenizer").dump());
  ASSERT_GE(entry.at("cases").size(), 20u);
  for (const Json& c : entry.at("cases")) {
    const auto text = c.at("text").get<std::string>();
    EXPECT_EQ(tokenizer.encode(text, false), c.at("ids").get<Ids>()) << text;
    EXPECT_EQ(tokenizer.encode(text, true), c.at("ids_with_special").get<Ids>()) << text;
    expect_decodes(tokenizer, c);
  }
  for (const Json& c : entry.at("decodes")) expect_decodes(tokenizer, c);
}

std::vector<std::string> names() {
  std::vector<std::string> result;
  for (const Json& entry : models()) result.push_back(entry.at("name").get<std::string>());
  return result;
}

INSTANTIATE_TEST_SUITE_P(Models, SmallModel, testing::ValuesIn(names()),
                         [](const auto& small_model) { return small_model.param; });

TEST(Tokenizer, KnowsWhatATokenStandsFor) {
  const Tokenizer piece = Tokenizer::parse(model("sentencepiece_prepend").at("tokenizer").dump());
  EXPECT_EQ(piece.token_bytes(*piece.id_of("<0xE4>")), "\xE4");
  EXPECT_EQ(piece.token_bytes(*piece.id_of("\u2581hello")), " hello");
  EXPECT_EQ(piece.token_bytes(*piece.id_of("<s>")), "<s>");
  EXPECT_TRUE(piece.is_special(*piece.id_of("<s>")));
  EXPECT_FALSE(piece.is_special(*piece.id_of("\u2581hello")));
  EXPECT_EQ(piece.id_of("absent"), std::nullopt);
  const Tokenizer bytes = Tokenizer::parse(model("byte_level_flags").at("tokenizer").dump());
  EXPECT_EQ(bytes.token_bytes(*bytes.id_of("\u0120hello")), " hello");
  EXPECT_EQ(bytes.token_bytes(bytes.vocab_size()), "");
}

TEST(Tokenizer, ReadsIllFormedUtf8AsReplacementCharacters) {
  const Tokenizer tokenizer = Tokenizer::parse(model("byte_level_flags").at("tokenizer").dump());
  EXPECT_EQ(tokenizer.encode("a\xFF"
                             "b",
                             false),
            tokenizer.encode("a\uFFFD"
                             "b",
                             false));
  EXPECT_EQ(tokenizer.encode("\xE4\xBD", false), tokenizer.encode("\uFFFD", false));
}

TEST(Tokenizer, DecodesAnUnknownIdAsAReplacementCharacter) {
  const Tokenizer tokenizer = Tokenizer::parse(model("byte_level_flags").at("tokenizer").dump());
  EXPECT_EQ(tokenizer.decode(Ids{-1, 1 << 30, tokenizer.vocab_size()}, true), "\uFFFD\uFFFD\uFFFD");
}

TEST(Tokenizer, NeverDoublesBos) {
  const Tokenizer tokenizer = Tokenizer::parse(model("sentencepiece_prepend").at("tokenizer").dump(),
                                               R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>"})");
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_EQ(tokenizer.encode_rendered("<s> hello"), tokenizer.encode("<s> hello", false));
  EXPECT_EQ(tokenizer.encode_rendered("hello"), tokenizer.encode("hello", true));
}

TEST(Detokenizer, ContinuesAPrompt) {
  const Tokenizer tokenizer = Tokenizer::parse(model("sentencepiece_prepend").at("tokenizer").dump());
  const Ids hello = {*tokenizer.id_of("\u2581hello")};
  Detokenizer alone(tokenizer, true), after(tokenizer, true);
  after.skip(Ids{*tokenizer.id_of("a")});
  EXPECT_EQ(alone.push(hello[0]), "hello");
  EXPECT_EQ(after.push(hello[0]), " hello");
}

TEST(Detokenizer, HoldsBackAnUnfinishedCharacter) {
  const Tokenizer tokenizer = Tokenizer::parse(model("byte_level_flags").at("tokenizer").dump());
  Detokenizer stream(tokenizer, false);
  const Ids ids = tokenizer.encode("\u4F60", false);
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.push(ids[1]), "");
  EXPECT_EQ(stream.push(ids[2]), "\u4F60");
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

}  // namespace
}  // namespace shoal
