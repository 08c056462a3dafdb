// SPDX-License-Identifier: Apache-2.0
// What each markup means, and that it means the same however the text comes in pieces.
#include "text/tool_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace shoal {
namespace {

struct Answer {
  std::string content, reasoning;
  std::vector<ToolCallDelta> calls;
  bool called = false;
};

void add(AssistantDelta delta, Answer& answer) {
  answer.content += delta.content;
  answer.reasoning += delta.reasoning;
  for (ToolCallDelta& call : delta.tool_calls) {
    if (call.index == answer.calls.size()) {
      EXPECT_FALSE(call.id.empty());
      EXPECT_FALSE(call.name.empty());
      answer.calls.push_back(std::move(call));
    } else {
      ASSERT_EQ(call.index + 1, answer.calls.size());
      EXPECT_TRUE(call.id.empty() && call.name.empty());
      answer.calls[call.index].arguments += call.arguments;
    }
  }
}

Answer read_pieces(const AssistantFormat& format, const std::vector<std::string>& pieces, const std::string& tail,
                   bool tools) {
  AssistantParser parser(format, tail, tools, "seed");
  Answer answer;
  for (const std::string& piece : pieces) add(parser.push(piece), answer);
  add(parser.finish(), answer);
  answer.called = parser.called_tools();
  EXPECT_EQ(answer.called, !answer.calls.empty());
  return answer;
}

void expect_same(const Answer& a, const Answer& b, const std::string& how) {
  EXPECT_EQ(a.content, b.content) << how;
  EXPECT_EQ(a.reasoning, b.reasoning) << how;
  ASSERT_EQ(a.calls.size(), b.calls.size()) << how;
  for (size_t i = 0; i < a.calls.size(); ++i) {
    EXPECT_EQ(a.calls[i].id, b.calls[i].id) << how;
    EXPECT_EQ(a.calls[i].name, b.calls[i].name) << how;
    EXPECT_EQ(a.calls[i].arguments, b.calls[i].arguments) << how;
  }
}

// The whole at once; the same comes byte by byte and in random pieces.
Answer read(const AssistantFormat& format, const std::string& text, const std::string& tail = {}, bool tools = true) {
  Answer whole = read_pieces(format, {text}, tail, tools);
  std::vector<std::string> bytes;
  for (const char c : text) bytes.emplace_back(1, c);
  expect_same(read_pieces(format, bytes, tail, tools), whole, "by bytes: " + text);
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t length = 1 + random() % 12;
      pieces.push_back(text.substr(at, length));
      at += length;
    }
    expect_same(read_pieces(format, pieces, tail, tools), whole, "in pieces: " + text);
  }
  return whole;
}

AssistantFormat of(ToolFormat tools, bool thinks = false) {
  AssistantFormat format{.tools = tools, .think_begin = {}, .think_end = {}};
  if (thinks) format.think_begin = "<think>", format.think_end = "</think>";
  return format;
}

void expect_call(const Answer& answer, size_t index, const std::string& name, const std::string& arguments) {
  ASSERT_LT(index, answer.calls.size());
  EXPECT_EQ(answer.calls[index].name, name);
  EXPECT_EQ(nlohmann::json::parse(answer.calls[index].arguments, nullptr, false), nlohmann::json::parse(arguments))
      << answer.calls[index].arguments;
}

TEST(ToolCalls, Hermes) {
  const Answer one = read(of(ToolFormat::kHermes),
                          "Let me look.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris "
                          "}\\\"\", \"days\": [1, 2]}}\n</tool_call>");
  EXPECT_EQ(one.content, "Let me look.\n");
  expect_call(one, 0, "get_weather", R"({"city": "Paris }\"", "days": [1, 2]})");
  const Answer two = read(of(ToolFormat::kHermes),
                          "<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call>\n<tool_call>{\"arguments\": "
                          "{\"x\": 1}, \"name\": \"b\"}</tool_call>");
  EXPECT_EQ(two.content, "");
  ASSERT_EQ(two.calls.size(), 2u);
  expect_call(two, 0, "a", "{}");
  expect_call(two, 1, "b", R"({"x": 1})");
  EXPECT_NE(two.calls[0].id, two.calls[1].id);
}

TEST(ToolCalls, WhatIsNoCallStaysContent) {
  EXPECT_EQ(read(of(ToolFormat::kHermes), "a <tool_call>{\"nam\": 1} b").content, "a <tool_call>{\"nam\": 1} b");
  EXPECT_EQ(read(of(ToolFormat::kHermes), "1 < 2 <tool").content, "1 < 2 <tool");
  EXPECT_EQ(read(of(ToolFormat::kHermes), "<tool_call>{\"name\": \"f\"}</tool_call>", {}, false).content,
            "<tool_call>{\"name\": \"f\"}</tool_call>");
  EXPECT_EQ(read(of(ToolFormat::kLlamaJson), R"({"answer": 42})").content, R"({"answer": 42})");
  EXPECT_EQ(read(of(ToolFormat::kLlamaPythonic), "[1, 2, 3] is a list").content, "[1, 2, 3] is a list");
  EXPECT_EQ(read(of(ToolFormat::kNone), "  plain [TOOL_CALLS]\n").content, "  plain [TOOL_CALLS]\n");
  EXPECT_EQ(read(of(ToolFormat::kMistral), "a [TOOL").content, "a [TOOL");
}

TEST(ToolCalls, CutOffInTheMiddleGivesWhatThereIs) {
  const Answer answer = read(of(ToolFormat::kHermes), "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"b");
  ASSERT_EQ(answer.calls.size(), 1u);
  EXPECT_EQ(answer.calls[0].arguments, "{\"a\": \"b");
}

TEST(ToolCalls, LlamaJson) {
  expect_call(read(of(ToolFormat::kLlamaJson), R"({"name": "f", "parameters": {"a": "1"}})"), 0, "f", R"({"a": "1"})");
  const Answer tagged = read(
      of(ToolFormat::kLlamaJson),
      R"(<|python_tag|>{"type": "function", "name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}})");
  ASSERT_EQ(tagged.calls.size(), 2u);
  expect_call(tagged, 0, "f", R"({"a": 1})");
  expect_call(tagged, 1, "g", "{}");
  expect_call(
      read(of(ToolFormat::kLlamaJson), R"({"type": "function", "function": {"name": "f", "arguments": "{\"q\": 2}"}})"),
      0, "f", R"({"q": 2})");
}

TEST(ToolCalls, LlamaPythonic) {
  const Answer answer =
      read(of(ToolFormat::kLlamaPythonic), "[get_weather(city=\"San (F)\", days=3, opts={'a': [True, None]}), now()]");
  ASSERT_EQ(answer.calls.size(), 2u);
  expect_call(answer, 0, "get_weather", R"json({"city": "San (F)", "days": 3, "opts": {"a": [true, null]}})json");
  expect_call(answer, 1, "now", "{}");
}

TEST(ToolCalls, DeepSeek) {
  const Answer v3 =
      read(of(ToolFormat::kDeepSeek),
           "I will.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": "
           "1}\n```<｜tool▁call▁end｜>\n"
           "<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>");
  EXPECT_EQ(v3.content, "I will.");
  ASSERT_EQ(v3.calls.size(), 2u);
  expect_call(v3, 0, "f", R"({"a": 1})");
  expect_call(v3, 1, "g", "{}");
  expect_call(read(of(ToolFormat::kDeepSeek),
                   "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": "
                   "{}}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"),
              0, "f", R"({"a": {}})");
}

TEST(ToolCalls, Harmony) {
  const Answer answer = read(of(ToolFormat::kHarmony),
                             "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant<|channel|>commentary "
                             "to=functions.f <|constrain|>json<|message|>{\"a\":1}");
  EXPECT_EQ(answer.reasoning, "Think.");
  expect_call(answer, 0, "f", R"({"a":1})");
  const Answer text =
      read(of(ToolFormat::kHarmony),
           "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Hello <b>");
  EXPECT_EQ(text.reasoning, "Hm");
  EXPECT_EQ(text.content, "Hello <b>");
  expect_call(read(of(ToolFormat::kHarmony), " to=functions.g<|channel|>commentary json<|message|>{}<|call|>"), 0, "g",
              "{}");
  EXPECT_EQ(read(of(ToolFormat::kHarmony), "plain").content, "plain");
}

TEST(ToolCalls, Mistral) {
  const Answer list = read(of(ToolFormat::kMistral),
                           R"([TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}])");
  ASSERT_EQ(list.calls.size(), 2u);
  expect_call(list, 0, "f", R"({"a": 1})");
  EXPECT_EQ(list.calls[0].id.size(), 9u);
  const Answer named = read(of(ToolFormat::kMistral), R"(Sure[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{})");
  EXPECT_EQ(named.content, "Sure");
  ASSERT_EQ(named.calls.size(), 2u);
  expect_call(named, 1, "g", "{}");
}

TEST(ToolCalls, Tagged) {
  expect_call(read(of(ToolFormat::kTagged),
                   "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>two "
                   "words</arg_value>\n<arg_key>n</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"),
              0, "f", R"({"a": "two words", "n": 3})");
  expect_call(read(of(ToolFormat::kTagged),
                   "<tool_call>\n<function=f>\n<parameter=a>\nx\ny\n</parameter>\n<parameter=l>\n[1]\n</parameter>\n</"
                   "function>\n</tool_call>"),
              0, "f", R"({"a": "x\ny", "l": [1]})");
}

TEST(ToolCalls, Kimi) {
  const Answer answer =
      read(of(ToolFormat::kKimi),
           "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"a\": "
           "1}<|tool_call_end|>"
           "<|tool_call_begin|>functions.g:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>");
  ASSERT_EQ(answer.calls.size(), 2u);
  expect_call(answer, 0, "f", R"({"a": 1})");
  EXPECT_EQ(answer.calls[0].id, "functions.f:0");
}

TEST(Reasoning, IsTakenOut) {
  const AssistantFormat format = of(ToolFormat::kHermes, true);
  const Answer answer = read(format, "<think>\nLet me see.\nYes.\n</think>\n\nIt is 4.");
  EXPECT_EQ(answer.reasoning, "Let me see.\nYes.");
  EXPECT_EQ(answer.content, "It is 4.");
  const Answer begun = read(format, "So\n</think>\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>",
                            "<|im_start|>assistant\n<think>\n");
  EXPECT_EQ(begun.reasoning, "So");
  EXPECT_EQ(begun.content, "");
  expect_call(begun, 0, "f", "{}");
  EXPECT_EQ(read(format, "no thought", "<think>\n\n</think>\n\n").content, "no thought");
  EXPECT_EQ(read(format, "<think>cut off").reasoning, "cut off");
  EXPECT_EQ(read(format, "a <think> b").content, "a <think> b");
}

TEST(AssistantFormat, IsFoundInTheTemplate) {
  EXPECT_EQ(assistant_format("{{ messages }}").tools, ToolFormat::kNone);
  EXPECT_EQ(assistant_format("... <tool_call>\n{\"name\": ... </think>").tools, ToolFormat::kHermes);
  EXPECT_EQ(assistant_format("... <tool_call>\n{\"name\": ... </think>").think_end, "</think>");
  EXPECT_EQ(assistant_format("<tool_call>{name}<arg_key>").tools, ToolFormat::kTagged);
  EXPECT_EQ(assistant_format("'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>'").tools, ToolFormat::kDeepSeek);
  EXPECT_TRUE(assistant_format("<|channel|>final<|message|>").needs_special_tokens);
  EXPECT_EQ(assistant_format("[TOOL_CALLS]").tools, ToolFormat::kMistral);
  EXPECT_EQ(assistant_format("[func_name1(params_name1=params_value1").tools, ToolFormat::kLlamaPythonic);
  EXPECT_EQ(assistant_format(R"(Respond in the format {"name": function name, "parameters": dictionary of)").tools,
            ToolFormat::kLlamaJson);
}

// Never loses text, never hangs, whatever comes.
TEST(ToolCalls, AnyMarkupInAnyOrder) {
  const std::vector<std::string> parts = {"<tool_call>",
                                          "</tool_call>",
                                          "{\"name\": \"f\"",
                                          ", \"arguments\": {",
                                          "}",
                                          "}}",
                                          "[TOOL_CALLS]",
                                          "[",
                                          "]",
                                          "f[ARGS]",
                                          "<think>",
                                          "</think>",
                                          "text ",
                                          "\n",
                                          "<|channel|>",
                                          "final",
                                          "<|message|>",
                                          "<|end|>",
                                          "<｜tool▁calls▁begin｜>",
                                          "<｜tool▁call▁begin｜>",
                                          "<｜tool▁sep｜>",
                                          "<|python_tag|>",
                                          ";",
                                          "f(a=1)",
                                          "<|tool_call_begin|>",
                                          "<|tool_call_argument_begin|>",
                                          "\"",
                                          "\\",
                                          "<"};
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += parts[random() % parts.size()];
    for (int format = 0; format <= static_cast<int>(ToolFormat::kKimi); ++format)
      read(of(static_cast<ToolFormat>(format), round % 2 == 0), text);
  }
}

}  // namespace
}  // namespace shoal
