// SPDX-License-Identifier: Apache-2.0
// Grammars of JSON schemas: whatever an adversary picks parses and validates; documents that validate are accepted however they are cut
// into tokens; wrong and hostile schemas are refused.
#include "text/grammar/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "base/error.h"
#include "text/grammar/grammar_test.h"

namespace shoal::text {
namespace {

using testing::HasSubstr;

GrammarCompiler& compiler_of(const NamedTokenizer& named) {
  static auto* compilers = new std::map<std::string, std::unique_ptr<GrammarCompiler>>;
  auto& compiler = (*compilers)[named.name];
  if (!compiler) compiler = std::make_unique<GrammarCompiler>(named.tokenizer);
  return *compiler;
}

const NamedTokenizer& tiny() { return test_tokenizers().front(); }

const std::vector<const char*> kSchemas = {
    R"({"type": "object"})",
    R"({})",
    R"({"type": "string"})",
    R"({"type": ["integer", "null"]})",
    R"({"type": "object", "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c\"d"]}, "maxItems": 3}}, "required": ["name", "age"], "additionalProperties": false})",
    R"({"type": "object", "properties": {"a": {}, "b": {"type": "boolean"}, "c": {"type": "null"}}})",
    R"({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}, "required": ["a"]})",
    R"({"type": "object", "additionalProperties": {"type": "number"}, "minProperties": 1, "maxProperties": 4})",
    R"({"type": "object", "patternProperties": {"^x-": {"type": "integer"}, "^y": {"type": "boolean"}}, "additionalProperties": false, "minProperties": 1})",
    R"({"type": "object", "propertyNames": {"pattern": "^[a-z]{1,3}$"}, "additionalProperties": {"type": "boolean"}})",
    R"({"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}], "items": {"type": "boolean"}, "minItems": 1, "maxItems": 5})",
    R"({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": false, "minItems": 2})",
    R"({"type": "array", "items": {"type": "integer", "minimum": -3, "maximum": 3}, "minItems": 2, "maxItems": 4})",
    R"({"enum": ["red", "green", 3, 4.5, null, true, {"k": [1, "x"]}, []]})",
    R"({"const": {"a": "ü\n", "b": [1, 2]}})",
    R"({"anyOf": [{"type": "string", "maxLength": 3}, {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}, {"type": "null"}]})",
    R"({"oneOf": [{"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["kind", "lives"]},
        {"type": "object", "properties": {"kind": {"const": "dog"}, "good": {"const": true}}, "required": ["kind"]}]})",
    R"({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"properties": {"b": {"type": "string"}, "a": {"maximum": 10}}, "required": ["b"]}]})",
    R"({"$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["v", "next"],
        "additionalProperties": false}}, "$ref": "#/$defs/node"})",
    R"({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}, "id": {"type": "integer"}}, "required": ["id"]})",
    R"({"type": "string", "pattern": "^[A-Z][a-z]+(-[0-9]{2,4})?$"})",
    R"({"type": "string", "pattern": "ab+c", "maxLength": 8})",
    R"({"type": "string", "pattern": "^(\\([0-9]{3}\\))?[0-9]{3}-[0-9]{4}$", "minLength": 9})",
    R"({"type": "string", "minLength": 3, "maxLength": 5})",
    R"({"type": "integer", "minimum": -17, "exclusiveMaximum": 1042})",
    R"({"type": "integer", "minimum": 1000000007})",
    R"({"type": "integer", "maximum": -99, "minimum": -101})",
    R"({"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 500})",
    R"({"type": "number", "minimum": -1.5, "maximum": 2.25})",
    R"({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.01})",
    R"({"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 100})",
    R"({"type": "object", "properties": {"q\"uo/te\\": {"type": "boolean"}, "ключ": {"type": "string", "maxLength": 2}}, "required": ["ключ", "q\"uo/te\\"]})",
    R"({"type": "array", "items": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "minItems": 1}, "minItems": 1}, "minItems": 1})",
};

class Schemas : public testing::TestWithParam<size_t> {};

TEST_P(Schemas, WhateverIsPickedParsesAndValidates) {
  const char* schema = kSchemas[GetParam()];
  const SchemaValidator validator(TestJson::parse(schema));
  for (const NamedTokenizer& named : test_tokenizers()) {
    const auto grammar = compiler_of(named).json_schema(schema);
    const int texts = named.name == "shoal_tiny" ? 24 : 4;
    int ended = 0;
    for (int seed = 0; seed < texts; ++seed) {
      const std::string text =
          random_text(grammar, named.tokenizer, static_cast<uint64_t>(seed), seed % 3 == 0 ? 5 : 60);
      if (text.empty()) continue;
      ++ended;
      const TestJson value = TestJson::parse(text, nullptr, false);
      ASSERT_FALSE(value.is_discarded()) << text << "\n" << schema;
      ASSERT_TRUE(validator.valid(value)) << text << "\n" << schema;
    }
    EXPECT_EQ(ended, texts) << named.name << ": " << schema;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Schemas, testing::Range<size_t>(0, kSchemas.size()));

// Cuts text into tokens at random, by bytes.
std::vector<int32_t> random_tokens(const Tokenizer& tokenizer, const std::string& text, uint64_t seed) {
  static auto* all = new std::map<const Tokenizer*, std::map<std::string, int32_t>>;
  auto& by_bytes = (*all)[&tokenizer];
  if (by_bytes.empty())
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id)
      if (!tokenizer.is_special(id)) by_bytes.emplace(tokenizer.token_bytes(id), id);
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens;
  for (size_t at = 0; at < text.size();) {
    std::vector<std::pair<size_t, int32_t>> choices;
    for (size_t length = 1; length <= std::min<size_t>(16, text.size() - at); ++length)
      if (const auto found = by_bytes.find(text.substr(at, length)); found != by_bytes.end())
        choices.emplace_back(length, found->second);
    if (choices.empty()) return {};
    const auto [length, id] = choices[random() % choices.size()];
    tokens.push_back(id);
    at += length;
  }
  return tokens;
}

void expect_accepted(const std::string& schema, const std::string& text, bool accepted = true) {
  for (const NamedTokenizer& named : test_tokenizers()) {
    const auto grammar = compiler_of(named).json_schema(schema);
    EXPECT_EQ(accepts(grammar, named.tokenizer, named.tokenizer.encode(text, false)), accepted)
        << named.name << ": " << text;
    for (uint64_t seed = 0; seed < 3; ++seed)
      EXPECT_EQ(accepts(grammar, named.tokenizer, random_tokens(named.tokenizer, text, seed)), accepted)
          << named.name << ": " << text;
  }
}

TEST(JsonGrammar, AcceptsDocumentsHoweverTheyAreCut) {
  const std::vector<std::string> documents = {
      R"({})",
      R"({"a":1,"b":[true,false,null],"c":{"d":"e"}})",
      R"({"a": -0.5e-10, "b": [1, 2.25, 3E+7, 0, -12345678901234567]})",
      "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}",
      "{\r\n\t\"tab\": [ ],\r\n\t\"x\" : { }\r\n}",
      R"({"text": "Größe 東京 🙂 \u00e9 \ud83d\ude00 \"quoted\" \\ \/ \b\f\n\r\t", "": ""})",
      R"([[[[[[[[[[[[1]]]]]]]]]]]])",
      R"("just a string")",
      "3.14159",
      "true",
  };
  for (const std::string& document : documents) {
    ASSERT_TRUE(TestJson::accept(document)) << document;
    expect_accepted("{}", document);
    expect_accepted(R"({"type": "object"})", document, document.front() == '{');
  }
}

TEST(JsonGrammar, RefusesWhatIsNoJson) {
  for (const char* text : {R"({"a":1,})", R"({a:1})", "[1,]", "01", "1.", "-", "\"\t\"", R"("\ud83d")", R"("\x")",
                           "tru", "{\"a\" 1}", "[1 2]", "1e999", "NaN"})
    expect_accepted("{}", text, false);
}

TEST(JsonGrammar, StringsAreValidUtf8) {
  const auto grammar = compiler_of(tiny()).json_schema("{}");
  for (const char* bytes : {"\"\x80\"", "\"\xED\xA0\x80\"", "\"\xC0\x80\"", "\"\xF5\x80\x80\x80\"", "\"\xC3\""}) {
    const std::vector<int32_t> tokens = random_tokens(tiny().tokenizer, bytes, 1);
    ASSERT_FALSE(tokens.empty());
    EXPECT_FALSE(accepts(grammar, tiny().tokenizer, tokens)) << bytes;
  }
}

TEST(JsonGrammar, BlanksAreBounded) {
  const auto grammar = compiler_of(tiny()).json_object();
  TokenConstraint constraint(grammar);
  const int32_t open = *tiny().tokenizer.id_of("{");
  ASSERT_TRUE(constraint.accept(open));
  int blanks = 0;
  for (bool went_on = true; went_on && blanks < 1000;) {
    went_on = false;
    for (int32_t id = 0; id < tiny().tokenizer.vocab_size() && !went_on; ++id) {
      const std::string bytes = tiny().tokenizer.token_bytes(id);
      if (bytes.empty() || bytes.find_first_not_of(" \n\t\r") != std::string::npos || tiny().tokenizer.is_special(id))
        continue;
      went_on = constraint.accept(id);
      if (went_on) blanks += static_cast<int>(bytes.size());
    }
  }
  EXPECT_GT(blanks, 10);
  EXPECT_LT(blanks, 100);
  EXPECT_TRUE(constraint.accept(*tiny().tokenizer.id_of("}")));
  EXPECT_TRUE(constraint.must_end());
}

TEST(JsonGrammar, NestingIsBoundedAndCanAlwaysBeClosed) {
  const auto grammar = compiler_of(tiny()).json_schema("{}");
  TokenConstraint constraint(grammar);
  const int32_t open = *tiny().tokenizer.id_of("["), close = *tiny().tokenizer.id_of("]");
  int depth = 0;
  while (depth < 1000 && constraint.accept(open)) ++depth;
  EXPECT_EQ(depth, 64);
  EXPECT_FALSE(has_bit(mask_of(constraint, tiny().tokenizer), open));
  for (; depth > 0; --depth) ASSERT_TRUE(constraint.accept(close));
  EXPECT_TRUE(constraint.must_end());
}

TEST(SchemaGrammar, PropertiesComeAsDeclaredAndOptionalOnesMayBeLeftOut) {
  const std::string schema =
      R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"},"c":{"type":"integer"}},"required":["b"]})";
  expect_accepted(schema, R"({"a": 1, "b": 2, "c": 3})");
  expect_accepted(schema, R"({"b": 2})");
  expect_accepted(schema, R"({"b": 2, "c": 3})");
  expect_accepted(schema, R"({"a": 1, "c": 3})", false);
  expect_accepted(schema, R"({"b": 2, "a": 1})", false);
  expect_accepted(schema, R"({"a": 1, "a": 1, "b": 2})", false);
  expect_accepted(schema, R"({"b": 2, "d": 1})", false);
}

TEST(SchemaGrammar, IntegerBoundsAreExact) {
  const std::string schema = R"({"type": "integer", "minimum": -105, "maximum": 2048})";
  const auto grammar = compiler_of(tiny()).json_schema(schema);
  for (int value = -2100; value <= 2100; ++value) {
    const std::string text = std::to_string(value);
    TokenConstraint constraint(grammar);
    bool accepted = true;
    for (const int32_t token : random_tokens(tiny().tokenizer, text, 1))
      accepted = accepted && constraint.accept(token);
    ASSERT_EQ(accepted && constraint.may_end(), value >= -105 && value <= 2048) << value;
  }
}

TEST(SchemaGrammar, Formats) {
  const std::map<std::string, std::pair<std::vector<std::string>, std::vector<std::string>>> cases = {
      {"date", {{"2024-02-29", "1999-12-31"}, {"2023-02-29", "2024-13-01", "2024-04-31", "24-01-01"}}},
      {"date-time",
       {{"2024-06-01T12:30:00Z", "2024-06-01T12:30:00.123+02:00"}, {"2024-06-01 12:30:00Z", "2024-06-01T25:00:00Z"}}},
      {"time", {{"23:59:59Z"}, {"24:00:00Z", "12:00"}}},
      {"email", {{"a.b+c@example.org"}, {"a@b", "@x.org", "a..b@x.org"}}},
      {"uuid", {{"123e4567-e89b-12d3-a456-426614174000"}, {"123e4567e89b12d3a456426614174000"}}},
      {"uri", {{"https://example.org/a/b?c=d#e", "http://localhost:8000"}, {"example.org", "http:// x"}}},
      {"ipv4", {{"192.168.0.255"}, {"256.1.1.1", "1.1.1"}}},
      {"ipv6", {{"::1", "2001:db8::8a2e:370:7334", "1:2:3:4:5:6:7:8"}, {"1::2::3", "1:2:3"}}},
      {"hostname", {{"a-b.example.com"}, {"-a.com"}}},
      {"duration", {{"P3DT4H", "PT5M", "P1Y2M"}, {"P", "3D"}}},
  };
  for (const auto& [format, texts] : cases) {
    const std::string schema = R"({"type": "string", "format": ")" + format + "\"}";
    for (const std::string& good : texts.first) expect_accepted(schema, "\"" + good + "\"");
    for (const std::string& bad : texts.second) expect_accepted(schema, "\"" + bad + "\"", false);
  }
}

struct Refused {
  const char* schema;
  std::vector<const char*> words;
};

TEST(SchemaGrammar, RefusalsNameKeywordPlaceAndRemedy) {
  const std::vector<Refused> cases = {
      {R"({"properties": {"a/b": {"not": {}}}})", {"#/properties/a~1b/not", "not supported", "anyOf"}},
      {R"({"type": "strin"})", {"#/type", "strin", "string, array or object"}},
      {R"({"type": "array", "uniqueItems": true})", {"#/uniqueItems", "not supported"}},
      {R"({"if": {}, "then": {}})", {"#/if", "anyOf"}},
      {R"({"$ref": "other.json#/a"})", {"#/$ref", "$defs"}},
      {R"({"$ref": "#/$defs/no"})", {"#/$ref", "names nothing"}},
      {R"({"$ref": "#"})", {"refers back to itself"}},
      {R"({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"})",
       {"refers back to itself"}},
      {R"({"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]})", {"nothing satisfies"}},
      {R"({"type": "array", "items": {"$ref": "#"}, "minItems": 1})", {"nothing satisfies"}},
      {R"({"type": "integer", "minimum": 5, "maximum": 4})", {"nothing satisfies"}},
      {R"({"type": "string", "minLength": 5, "maxLength": 4})", {"nothing satisfies"}},
      {R"({"type": "object", "additionalProperties": {}, "minProperties": 3, "maxProperties": 2})",
       {"nothing satisfies"}},
      {R"({"type": "object", "additionalProperties": {}, "required": ["a"], "minProperties": 3})",
       {"#/minProperties", "2 more than the required", "name them"}},
      {R"({"enum": []})", {"nothing satisfies"}},
      {R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})", {"#/oneOf", "choices 0 and 1", "anyOf"}},
      {R"({"type": "string", "pattern": "(?=a)b"})", {"#/pattern", "look-ahead"}},
      {R"({"type": "string", "pattern": "(a"})", {"#/pattern", "without a )"}},
      {R"({"type": "string", "pattern": "(a)\\1"})", {"#/pattern", "back reference"}},
      {R"({"type": "string", "format": "zip-code"})", {"#/format", "zip-code", "date-time"}},
      {R"({"minLength": -1})", {"#/minLength", "-1", "at least 0"}},
      {R"({"type": "number", "multipleOf": 0.3})", {"#/multipleOf", "power of ten"}},
      {R"([1])", {"#", "must be an object"}},
      {R"({"type": )", {"schema"}},
  };
  for (const Refused& refused : cases) {
    try {
      compiler_of(tiny()).json_schema(refused.schema);
      ADD_FAILURE() << refused.schema << " was taken";
    } catch (const Error& error) {
      for (const char* words : refused.words) EXPECT_THAT(error.what(), HasSubstr(words)) << refused.schema;
    }
  }
}

// Each is small in writing and large in what it asks; refused or compiled within bounds.
TEST(SchemaGrammar, HostileSchemasAreRefused) {
  const auto refused = [](const std::string& schema) {
    EXPECT_THROW(compiler_of(tiny()).json_schema(schema), Error) << schema.substr(0, 200);
  };
  refused(R"({"type": "string", "pattern": "(a|b)*a(a|b){30}"})");
  refused(R"json({"type": "string", "pattern": "((((x{100}){100}){100}){100})"})json");
  refused(R"({"type": "string", "pattern": "^a{9999}b{9999}c{9999}d{9999}$"})");
  refused(R"({"type": "string", "pattern": ")" + std::string(5000, '(') + "\"}");
  std::string deep = "{}";
  for (int i = 0; i < 200; ++i) deep = R"({"items": )" + deep + "}";
  refused(deep);
  std::string doubling = R"({"type": "object", "allOf": [)";
  for (int i = 0; i < 40; ++i)
    doubling += std::string(i > 0 ? "," : "") + R"({"anyOf": [{"properties": {"a)" + std::to_string(i) +
                R"(": {}}}, {"properties": {"b)" + std::to_string(i) + R"(": {}}}]})";
  refused(doubling + "]}");
  std::string chain = R"({"$ref": "#/$defs/d0", "$defs": {)";
  for (int i = 0; i < 1000; ++i)
    chain += "\"d" + std::to_string(i) + R"(": {"$ref": "#/$defs/d)" + std::to_string(i + 1) + "\"},";
  refused(chain + R"("d1000": {"type": "null"}}})");
}

TEST(SchemaGrammar, LargeSchemasWork) {
  std::string schema = R"({"type": "object", "properties": {)";
  for (int i = 0; i < 1000; ++i)
    schema += std::string(i > 0 ? "," : "") + "\"property_" + std::to_string(i) + R"(": {"type": "integer"})";
  schema += "}}";
  const auto grammar = compiler_of(tiny()).json_schema(schema);
  EXPECT_TRUE(
      accepts(grammar, tiny().tokenizer, tiny().tokenizer.encode(R"({"property_3": 1, "property_999": 2})", false)));
  EXPECT_FALSE(
      accepts(grammar, tiny().tokenizer, tiny().tokenizer.encode(R"({"property_30": 1, "property_9": 2})", false)));
  std::string words = R"({"enum": [)";
  for (int i = 0; i < 5000; ++i)
    words += std::string(i > 0 ? "," : "") + "\"word" + std::to_string(i * 7919 % 100003) + "\"";
  const auto choice = compiler_of(tiny()).json_schema(words + "]}");
  EXPECT_FALSE(random_text(choice, tiny().tokenizer, 3).empty());
  // Definitions that refer on in a long row are no deep recursion.
  std::string row = R"({"$ref": "#/$defs/d0", "$defs": {)";
  for (int i = 0; i < 3000; ++i)
    row +=
        "\"d" + std::to_string(i) + R"(": {"properties": {"n": {"$ref": "#/$defs/d)" + std::to_string(i + 1) + "\"}}},";
  EXPECT_TRUE(accepts(compiler_of(tiny()).json_schema(row + R"("d3000": {"type": "null"}}})"), tiny().tokenizer,
                      tiny().tokenizer.encode(R"({"n": {"n": {}}})", false)));
}

TEST(SchemaGrammar, OneGrammarServesManyThreads) {
  const auto grammar = GrammarCompiler(tiny().tokenizer).json_schema(kSchemas[4]);
  std::vector<std::string> texts(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < texts.size(); ++i)
    threads.emplace_back([&, i] {
      for (uint64_t seed = 0; seed < 20; ++seed) texts[i] += random_text(grammar, tiny().tokenizer, seed);
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : texts) EXPECT_EQ(text, texts.front());
}

TEST(GrammarCompiler, KeepsTheLatestGrammars) {
  GrammarCompiler compiler(tiny().tokenizer);
  EXPECT_EQ(compiler.json_schema(kSchemas[4]), compiler.json_schema(kSchemas[4]));
  EXPECT_EQ(compiler.json_object(), compiler.json_object());
}

}  // namespace
}  // namespace shoal::text
