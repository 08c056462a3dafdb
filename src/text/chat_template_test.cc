// SPDX-License-Identifier: Apache-2.0
// The template language against jinja2 as transformers sets it up (tests/tokenizers/template_golden.json), and what surrounds it.
#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

std::string render(std::string_view source, const Json& messages = Json::array(), ChatOptions options = {}) {
  return ChatTemplate::parse(source).render(messages, options);
}

std::string error_of(std::string_view source, const ChatOptions& options = {}) {
  try {
    return "no error but: " + render(source, Json::array(), options);
  } catch (const Error& error) {
    return error.what();
  }
}

// A directory of its own, removed at the end.
class Directory {
 public:
  Directory()
      : path_(testing::TempDir() + "/chat_template_" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  void write(const std::string& name, const std::string& content) const { std::ofstream(path_ / name) << content; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(ChatTemplate, RendersAsJinjaDoes) {
  const Json golden = Json::parse(std::ifstream("tests/tokenizers/template_golden.json"));
  ASSERT_GE(golden.at("cases").size(), 150u);
  std::tm now{};
  now.tm_year = 2026 - 1900;
  now.tm_mday = 2;
  now.tm_hour = 3;
  now.tm_min = 4;
  now.tm_sec = 5;
  now.tm_isdst = -1;
  ChatOptions options;
  options.variables = golden.at("variables");
  options.now = std::mktime(&now);
  for (const Json& c : golden.at("cases")) {
    const auto source = c.at("template").get<std::string>();
    if (c.contains("error")) {
      EXPECT_THROW(render(source, Json::array(), options), Error) << source;
    } else {
      EXPECT_EQ(render(source, Json::array(), options), c.at("text").get<std::string>()) << source;
    }
  }
}

TEST(ChatTemplate, NamesTheLineOfAnError) {
  EXPECT_EQ(error_of("a\nb\n{% if x %}\n"), "chat template, line 3: a block is not closed; add '{% endif %}'");
  EXPECT_EQ(error_of("\n{{ nothing.field }}"), "chat template, line 2: 'nothing' is undefined");
  EXPECT_EQ(error_of("\n\n{{ raise_exception('roles must alternate') }}"),
            "chat template, line 3: the template refuses these messages: roles must alternate");
  EXPECT_THAT(error_of("{% import 'x' %}"), HasSubstr("'import' is not supported"));
  EXPECT_THAT(error_of("{{ 1 | shuffle }}"), HasSubstr("line 1: there is no filter 'shuffle'"));
  EXPECT_THAT(error_of("{{ 'é"), HasSubstr("a string is not closed"));
  EXPECT_THAT(error_of("{{ \xFF }}"), HasSubstr("not valid UTF-8"));
  EXPECT_THROW(render("", Json::object()), Error);
}

TEST(ChatTemplate, StopsTemplatesWithoutEnd) {
  const std::string many = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
  ChatOptions few;
  few.limits.steps = 100'000;
  EXPECT_THAT(error_of(many, few), HasSubstr("more than 100000 steps"));
  EXPECT_THAT(error_of(many), HasSubstr("chat template, line 1: the template"));
  EXPECT_THAT(error_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), HasSubstr("recurses too deep"));
  const std::string doubling =
      "{% set ns = namespace(x='0123456789') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
  EXPECT_THAT(error_of(doubling), HasSubstr("larger than"));
  EXPECT_THAT(error_of("{{ 'x' * 99999999999 }}"), HasSubstr("too large"));
  EXPECT_THAT(error_of("{{ range(1000000) }}"), HasSubstr("range is longer"));
  EXPECT_THAT(error_of("{% set ns = namespace(x=1) %}{% for i in range(9000) %}{% set ns.x = [ns.x] %}{% endfor %}"),
              HasSubstr("nested deeper"));
  EXPECT_THAT(error_of("{{ 'a' | replace('', 'x' * 1000000) | replace('', 'y' * 100) }}"),
              HasSubstr("chat template, line 1"));
  ChatOptions small;
  small.limits.output_bytes = 100;
  EXPECT_THAT(error_of(std::string(101, 'x'), small), HasSubstr("output is larger than 100"));
}

TEST(ChatTemplate, StopsNestingInItsSource) {
  for (const char* piece : {"(", "[", "{1:", "not ", "-", "{% if x %}", "a.b[", "f("}) {
    std::string source = "{{ ";
    for (int i = 0; i < 100000; ++i) source += piece;
    EXPECT_THROW(render(source), Error) << piece;
    if (piece[1] == '%') source = source.substr(3);
    EXPECT_THROW(render(source), Error) << piece;
  }
  for (const char* piece : {".a", "|upper", "+1", " if a else b", "~1", "[0]", " is defined"}) {
    std::string source = "{{ a";
    for (int i = 0; i < 100000; ++i) source += piece;
    source += " }}";
    try {
      render(source);
    } catch (const Error&) {  // refused or rendered, but never a crash
    }
  }
}

TEST(ChatTemplate, TakesContentAsParts) {
  const Json messages =
      Json::parse(R"([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])");
  const std::string source =
      "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
      "{% for p in m.content if p.type == 'text' %}{{ p.text }};{% endfor %}{% endif %}{% endfor %}";
  EXPECT_EQ(render(source, messages), "a;b;");
}

TEST(ChatTemplate, PassesOptionsAsVariables) {
  ChatOptions options;
  options.add_generation_prompt = true;
  options.special_tokens = {{"bos_token", "<s>"}};
  options.tools = Json::parse(R"([{"name": "f"}])");
  options.variables["enable_thinking"] = false;
  EXPECT_EQ(
      render(
          "{{ bos_token }}{{ tools[0].name }}{{ add_generation_prompt }}{{ enable_thinking is false }}{{ documents }}",
          Json::array(), options),
      "<s>fTrueTrueNone");
  EXPECT_EQ(render("{{ tools is none }}{{ eos_token is defined }}"), "TrueFalse");
}

TEST(ChatTemplate, LoadsFromEachPlaceItMayBeIn) {
  const Directory directory;
  EXPECT_THROW(ChatTemplate::load(directory.path()), Error);
  directory.write("tokenizer_config.json", R"({"chat_template": "from config"})");
  EXPECT_EQ(ChatTemplate::load(directory.path()).render(Json::array(), {}), "from config");
  directory.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "A"}, {"name": "tool_use", "template": "B"}]})");
  EXPECT_EQ(ChatTemplate::load(directory.path()).render(Json::array(), {}), "A");
  EXPECT_EQ(ChatTemplate::load(directory.path(), "tool_use").render(Json::array(), {}), "B");
  EXPECT_THROW(ChatTemplate::load(directory.path(), "rag"), Error);
  directory.write("chat_template.jinja", "from file\n");
  EXPECT_EQ(ChatTemplate::load(directory.path()).render(Json::array(), {}), "from file");
}

TEST(ChatTemplate, EncodesWithOneBos) {
  const std::string tokenizer_json = R"({
    "added_tokens": [{"id": 0, "content": "<s>", "special": true}],
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                       "special_tokens": {"<s>": {"ids": [0]}}},
    "decoder": {"type": "Fuse"},
    "model": {"type": "BPE", "vocab": {"<s>": 0, "h": 1, "i": 2}, "merges": []}})";
  const Tokenizer tokenizer = Tokenizer::parse(tokenizer_json, R"({"bos_token": "<s>"})");
  const Json messages = Json::parse(R"([{"role": "user", "content": "hi"}])");
  const std::vector<int32_t> one_bos = {0, 1, 2};
  EXPECT_EQ(encode_chat(tokenizer, ChatTemplate::parse("{{ bos_token }}{{ messages[0].content }}"), messages, {}),
            one_bos);
  EXPECT_EQ(encode_chat(tokenizer, ChatTemplate::parse("{{ messages[0].content }}"), messages, {}), one_bos);
}

}  // namespace
}  // namespace shoal
