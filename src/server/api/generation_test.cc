// SPDX-License-Identifier: Apache-2.0
#include "server/api/generation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/errors.h"

namespace shoal {
namespace {

using testing::ElementsAre;

const ModelText& tiny() {
  static const auto model = load_model_text("models/shoal-tiny", true);
  return *model;
}

Json with(Json body, const Json& more) {
  body.update(more);
  return body;
}

Json chat(const Json& more = Json::object()) {
  return with({{"messages", {{{"role", "user"}, {"content", "Hi"}}}}}, more);
}

Json completion(const Json& more = Json::object()) { return with({{"prompt", "Hi"}}, more); }

Generation read(const Json& body, const ApiLimits& limits = {}) {
  return body.contains("messages") ? read_chat(body, tiny(), limits) : read_completion(body, tiny(), limits);
}

// "code param" of what reading throws.
std::string refusal(const Json& body, const ApiLimits& limits = {}) {
  try {
    read(body, limits);
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 400);
    return error.code + " " + error.param;
  }
  return "accepted";
}

TEST(ReadChat, DefaultsAreOpenAIs) {
  const Generation request = read(chat());
  EXPECT_TRUE(request.chat);
  EXPECT_FALSE(request.stream);
  EXPECT_EQ(request.n, 1);
  EXPECT_FLOAT_EQ(request.params.temperature, 1.0f);
  EXPECT_FALSE(request.max_tokens.has_value());
  ASSERT_EQ(request.prompts.size(), 1u);
  EXPECT_EQ(tiny().tokenizer->decode(request.prompts[0], false), "<|bos|><|user|>Hi<|end|><|assistant|>");
  EXPECT_THAT(request.ignored, ElementsAre());
}

TEST(ReadChat, FieldsArriveWhereTheyBelong) {
  const Generation request = read(chat({{"temperature", 0.5},
                                        {"top_p", 0.9},
                                        {"top_k", -1},
                                        {"min_p", 0.1},
                                        {"seed", -3},
                                        {"stop", {"a", "b"}},
                                        {"stop_token_ids", {7}},
                                        {"max_tokens", 5},
                                        {"max_completion_tokens", 6},
                                        {"min_tokens", 2},
                                        {"logit_bias", {{"5", -100}}},
                                        {"logprobs", true},
                                        {"top_logprobs", 4},
                                        {"n", 3},
                                        {"priority", 0.9},
                                        {"cache_salt", "s"},
                                        {"attention_dp_rank", 1},
                                        {"user", "me"},
                                        {"presence_penalty", nullptr}}));
  EXPECT_FLOAT_EQ(request.params.temperature, 0.5f);
  EXPECT_EQ(request.params.top_k, 0);
  EXPECT_EQ(request.params.seed, static_cast<uint64_t>(-3));
  EXPECT_THAT(request.params.stop, ElementsAre("a", "b"));
  EXPECT_THAT(request.params.stop_token_ids, ElementsAre(7));
  EXPECT_EQ(request.max_tokens, 6);
  EXPECT_EQ(request.params.min_tokens, 2);
  EXPECT_FLOAT_EQ(request.params.logit_bias.at(5), -100);
  EXPECT_EQ(request.params.logprobs, 4);
  EXPECT_EQ(request.n, 3);
  EXPECT_EQ(request.scheduling.cache_salt, "s");
  EXPECT_EQ(request.scheduling.attention_dp_rank, 1);
  EXPECT_THAT(request.ignored, ElementsAre());
}

TEST(ReadChat, PartsOfTextAreJoinedAndRolesKnown) {
  const Json parts = {{{"type", "text"}, {"text", "a"}}, {{"type", "text"}, {"text", "b"}}};
  const Generation request = read({{"messages", {{{"role", "developer"}, {"content", parts}}}}});
  EXPECT_EQ(tiny().tokenizer->decode(request.prompts[0], false), "<|bos|><|system|>a\nb<|end|><|assistant|>");
}

TEST(ReadChat, UnknownFieldsAreNamedOrRefused) {
  const Json body = chat({{"temprature", 1}, {"stream", true}, {"stream_options", {{"x", 1}}}});
  EXPECT_THAT(read(body).ignored, ElementsAre("stream_options.x", "temprature"));
  EXPECT_EQ(refusal(body, {.strict = true}), "unknown_field stream_options.x");
  try {
    read(body, {.strict = true});
  } catch (const ApiError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("the fields stream_options.x, temprature")) << "all at once";
  }
}

TEST(ReadChat, WrongFieldsAreNamed) {
  EXPECT_EQ(refusal(chat({{"temperature", -1}})), "invalid_value temperature");
  EXPECT_EQ(refusal(chat({{"top_p", 0}})), "invalid_value top_p");
  EXPECT_EQ(refusal(chat({{"n", 0}})), "invalid_value n");
  EXPECT_EQ(refusal(chat({{"n", 129}})), "invalid_value n");
  EXPECT_EQ(refusal(chat({{"n", 1.5}})), "invalid_value n");
  EXPECT_EQ(refusal(chat({{"max_tokens", 0}})), "invalid_value max_tokens");
  EXPECT_EQ(refusal(chat({{"stop", ""}})), "invalid_value stop");
  EXPECT_EQ(refusal(chat({{"stop", Json::array({1})}})), "invalid_value stop");
  EXPECT_EQ(refusal(chat({{"top_logprobs", 2}})), "invalid_value top_logprobs");
  EXPECT_EQ(refusal(chat({{"stream_options", Json::object()}})), "invalid_value stream_options");
  EXPECT_EQ(refusal(chat({{"logit_bias", {{"x", 1}}}})), "invalid_value logit_bias");
  EXPECT_EQ(refusal(chat({{"logit_bias", {{"1", 101}}}})), "invalid_value logit_bias");
  EXPECT_EQ(refusal(chat({{"max_tokens", 3}, {"min_tokens", 4}})), "invalid_value min_tokens");
  EXPECT_EQ(refusal(chat({{"presence_penalty", 3}})), "invalid_value presence_penalty");
  EXPECT_EQ(refusal(chat({{"repetition_penalty", 0}})), "invalid_value repetition_penalty");
  EXPECT_EQ(refusal(chat({{"chat_template", "x"}})), "unsupported_parameter chat_template");
  EXPECT_EQ(refusal(chat({{"response_format", {{"type", "xml"}}}})), "invalid_value response_format.type");
  EXPECT_EQ(refusal(chat({{"tools", {{{"type", "function"}}}}})), "tools_not_supported tools");
  EXPECT_EQ(refusal(chat({{"tools", {{{"type", "function"}}}}, {"tool_choice", "none"}})), "accepted");
  EXPECT_EQ(refusal(chat({{"tool_choice", "required"}})), "invalid_value tool_choice");
  EXPECT_EQ(refusal(chat({{"tools", Json::array()}, {"tool_choice", "auto"}})), "accepted");
}

TEST(ReadChat, WrongMessagesAreNamed) {
  const auto message = [](const Json& value) { return Json{{"messages", Json::array({value})}}; };
  EXPECT_EQ(refusal({{"messages", Json::array()}}), "invalid_value messages");
  EXPECT_EQ(refusal(message(5)), "invalid_value messages[0]");
  EXPECT_EQ(refusal(message({{"content", "x"}})), "invalid_value messages[0].role");
  EXPECT_EQ(refusal(message({{"role", "user"}})), "invalid_value messages[0].content");
  EXPECT_EQ(refusal(message({{"role", "user"}, {"content", 5}})), "invalid_value messages[0].content");
  EXPECT_EQ(refusal(message({{"role", "user"}, {"content", {{{"type", "image_url"}}}}})),
            "unsupported_content messages[0].content[0]");
}

TEST(ReadCompletion, PromptsInAllForms) {
  EXPECT_EQ(read(completion()).max_tokens, 16);
  EXPECT_EQ(read(completion({{"prompt", {"a", "b"}}})).prompts.size(), 2u);
  EXPECT_THAT(read(completion({{"prompt", {1, 2}}})).prompts, ElementsAre(ElementsAre(1, 2)));
  EXPECT_THAT(read(completion({{"prompt", {{1, 2}, {3}}}})).prompts, ElementsAre(ElementsAre(1, 2), ElementsAre(3)));
  for (const Json& wrong :
       {Json(5), Json::object(), Json::array(), Json::array({Json()}), Json{1, "x"}, Json::array({-1})})
    EXPECT_EQ(refusal(completion({{"prompt", wrong}})), "invalid_value prompt") << wrong;
  EXPECT_EQ(refusal(completion({{"prompt", nullptr}})), "invalid_value prompt");
}

TEST(ReadCompletion, EchoKeepsThePromptsText) {
  EXPECT_THAT(read(completion({{"echo", true}, {"prompt", {"a", "b"}}})).prompt_texts, ElementsAre("a", "b"));
  EXPECT_EQ(read(completion({{"max_tokens", 0}, {"echo", true}, {"logprobs", 0}})).logprobs, true);
  EXPECT_EQ(refusal(completion({{"logprobs", 21}})), "invalid_value logprobs");
  EXPECT_EQ(refusal(completion({{"suffix", "x"}})), "unsupported_parameter suffix");
  EXPECT_EQ(refusal(completion({{"best_of", 3}})), "unsupported_parameter best_of");
}

TEST(ParseBody, RefusesWhatIsNoObject) {
  for (const std::string& text : {std::string(), std::string("  "), std::string("[]"), std::string("{"),
                                  std::string("{} x"), std::string(100000, '['), std::string("{\"a\":\"\xFF\"}")}) {
    try {
      parse_body(text);
      ADD_FAILURE() << text.substr(0, 20);
    } catch (const ApiError& error) {
      EXPECT_EQ(error.code, "invalid_json");
    }
  }
  EXPECT_EQ(parse_body(R"({"a":"[[[{{{\"["})")["a"], "[[[{{{\"[");
}

}  // namespace
}  // namespace shoal
