// SPDX-License-Identifier: Apache-2.0
#include "base/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/error.h"

namespace shoal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Kind = YamlNode::Kind;

std::string error_of(const std::string& text, const YamlLimits& limits = {}) {
  try {
    parse_yaml(text, "a.yaml", limits);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

std::string repeated(const std::string& text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

TEST(Yaml, KeepsLinesOrderAndKeysGivenTwice) {
  const YamlNode root = parse_yaml("# x\na: 1\nb:\n  c: [2, 'three']\na: ~\n", "a.yaml");
  ASSERT_EQ(root.kind, Kind::kMap);
  ASSERT_EQ(root.entries.size(), 3u);
  EXPECT_EQ(root.entries[0].key, "a");
  EXPECT_EQ(root.entries[0].value.text, "1");
  EXPECT_EQ(root.entries[0].line, 2);
  const YamlNode& list = root.entries[1].value.entries.at(0).value;
  EXPECT_EQ(list.kind, Kind::kList);
  EXPECT_EQ(list.items.at(1).text, "three");
  EXPECT_EQ(list.line, 4);
  EXPECT_EQ(root.entries[2].key, "a");
  EXPECT_EQ(root.entries[2].value.kind, Kind::kNull);
  EXPECT_EQ(root.entries[2].line, 5);
}

TEST(Yaml, EmptyTextsAreNull) {
  for (const char* text : {"", "# only a comment\n", "---\n", "\n\n", "null"}) {
    EXPECT_TRUE(parse_yaml(text, "a.yaml").empty()) << text;
  }
}

TEST(Yaml, WindowsLineEndsAndJsonAreFine) {
  EXPECT_EQ(parse_yaml("a: 1\r\nb: 2\r\n", "a.yaml").entries.at(1).value.text, "2");
  EXPECT_EQ(parse_yaml("{\"a\": {\"b\": 1}}", "a.yaml").entries.at(0).value.entries.at(0).key, "b");
}

TEST(Yaml, HostileTextsGiveOneLine) {
  const std::string bomb = "a: &a [1,1]\nb: &b [*a,*a]\nc: [*b,*b]\n";
  EXPECT_THAT(error_of(bomb), HasSubstr("a.yaml:2: aliases (*name) are not supported"));
  EXPECT_THAT(error_of("a: " + repeated("[", 50) + repeated("]", 50)), HasSubstr("a.yaml:1: nested deeper than 32"));
  EXPECT_THAT(error_of(repeated("[", 100000)), HasSubstr("a.yaml:1: "));
  EXPECT_THAT(error_of(repeated("{a: ", 100000)), HasSubstr("a.yaml:1: "));
  EXPECT_THAT(error_of(repeated("- ", 100000)), HasSubstr("nested deeper than 32"));
  EXPECT_THAT(error_of(repeated("? ", 100000)), HasSubstr("a key must be a word"));
  EXPECT_THAT(error_of("a: [1\nb: 2\n"), HasSubstr("a.yaml:"));
  EXPECT_THAT(error_of("? [a]\n: b\n"), HasSubstr("a.yaml:1: a key must be a word"));
  EXPECT_THAT(error_of("~: b\n"), HasSubstr("a key is missing"));
  EXPECT_THAT(error_of(std::string("a: 1\nb: \0", 9)), HasSubstr("a.yaml:2: is not a text file"));
  EXPECT_THAT(error_of("a: 1\n---\nb: 2\n"), HasSubstr("more than one document"));
  EXPECT_THAT(error_of("a: 12345678", {.bytes = 4}), HasSubstr("larger than 4 bytes"));
  for (const char* text :
       {"!2", "!", "!<", "&", "*", "%", "%YAML 9.9\n---\n", "a: b: c", "\t- a", "'", "\"\\x", "@", "`", "|", ">9"}) {
    EXPECT_THAT(error_of(text), Not(HasSubstr("\n"))) << text;
  }
}

TEST(Yaml, FilesThatCannotBeRead) {
  EXPECT_THROW(read_yaml_file("no/such/file.yaml"), Error);
  EXPECT_THROW(read_yaml_file("docs"), Error);
  EXPECT_THROW(read_yaml_file("/dev/zero"), Error);
}

// Any bytes: a tree or one Error; never a crash or another exception.
RC_GTEST_PROP(Yaml, AnyTextIsReadOrRefused, ()) {
  const std::string alphabet = "ab1 \n\t:-?[]{},&*!|>'\"%@#~.\\\x80";
  const auto text = *rc::gen::container<std::string>(rc::gen::elementOf(alphabet));
  try {
    parse_yaml(text, "a.yaml");
  } catch (const Error& error) {
    RC_ASSERT(std::string(error.what()).find('\n') == std::string::npos);
  }
}

}  // namespace
}  // namespace shoal
