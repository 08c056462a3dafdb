// SPDX-License-Identifier: Apache-2.0
#include "base/json_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"

namespace shoal {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

std::string error_of(const std::string& text, const JsonLimits& limits = {}) {
  try {
    parse_json(text, "config.json", limits);
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "";
}

std::string nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(ParseJson, EqualsTheLibrarysOwnParser) {
  for (const char* text :
       {"null", "true", "-7", "18446744073709551615", "1.5e3", "\"a\\u00e9\\n\"", "[]", "{}", "[[],{}]",
        R"({"a": [1, {"b": [2, [3, {}]], "c": "x"}, null], "d": {"e": {"f": false}}, "g": 1.25})"}) {
    EXPECT_EQ(parse_json(text, "x"), json::parse(text)) << text;
  }
}

TEST(ParseJson, LastOfEqualKeysWinsUnlessUnique) {
  EXPECT_EQ(parse_json(R"({"a": 1, "a": {"b": 2}})", "x"), json::parse(R"({"a": {"b": 2}})"));
  EXPECT_EQ(error_of("{\"a\": 1,\n\"b\": {\"a\": 1},\n\"a\": 2}", {.unique_keys = true}),
            "config.json:3: key \"a\" is given twice");
  EXPECT_EQ(error_of(R"([{"a": 1}, {"a": 1}])", {.unique_keys = true}), "");
}

TEST(ParseJson, ErrorsNameTheLine) {
  EXPECT_THAT(error_of("{\"a\": 1,\n \"b\": }\n"), StartsWith("config.json:2: syntax error"));
  EXPECT_THAT(error_of("{\n\"a\": 1\n\"b\": 2}"), StartsWith("config.json:3: "));
  EXPECT_THAT(error_of(""), StartsWith("config.json:1: "));
  EXPECT_THAT(error_of("{} x"), StartsWith("config.json:1: "));
  EXPECT_THAT(error_of("[1e999]"), HasSubstr("1e999"));
  EXPECT_THAT(error_of("\n\"\xff\""), StartsWith("config.json:2: "));
  EXPECT_THAT(error_of("\"" + std::string(100000, 'a')), testing::SizeIs(testing::Lt(400u)));
  EXPECT_EQ(error_of(std::string("{}\0{", 4)), "config.json:1: zero byte in JSON text");
}

TEST(ParseJson, DepthIsBounded) {
  EXPECT_EQ(error_of(nested(128)), "");
  EXPECT_EQ(error_of(nested(129)), "config.json:1: nested deeper than 128 levels");
  EXPECT_THAT(error_of(std::string(1000000, '[')), HasSubstr("nested deeper"));
  EXPECT_EQ(error_of(nested(3), {.depth = 2}), "config.json:1: nested deeper than 2 levels");
}

TEST(ParseJson, SizeIsBounded) {
  EXPECT_EQ(error_of("[1, 2]", {.bytes = 5}), "config.json: 6 bytes of JSON, at most 5 are read");
}

TEST(ReadJsonFile, ReadsAndNamesTheFile) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "json_file_test.json";
  std::ofstream(path) << "{\"a\":\n [1, 2]}";
  EXPECT_EQ(read_json_file(path), json::parse(R"({"a": [1, 2]})"));
  std::ofstream(path) << "{\"a\":\n [1, 2}";
  EXPECT_THROW(
      try { read_json_file(path); } catch (const Error& error) {
        EXPECT_THAT(error.what(), StartsWith(path.string() + ":2: "));
        throw;
      },
      Error);
  EXPECT_THROW(read_json_file("/no/such/file.json"), Error);
  EXPECT_THROW(read_json_file(testing::TempDir()), Error);
  EXPECT_THROW(read_json_file(path, {.bytes = 3}), Error);
}

TEST(Printable, KeepsTextAndHidesBytes) {
  EXPECT_EQ(printable("plain \xc3\xa9"), "plain \xc3\xa9");
  EXPECT_EQ(printable("a\nb\x7f\xff\xc3"), "a?b???");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
  EXPECT_EQ(printable(""), "");
}

}  // namespace
}  // namespace shoal
