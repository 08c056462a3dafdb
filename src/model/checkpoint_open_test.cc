// SPDX-License-Identifier: Apache-2.0
// Model directories: with and without an index, incomplete, contradictory, hostile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/checkpoint.h"
#include "tests/support/make_checkpoint.h"

namespace shoal {
namespace {

using namespace testing_support;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kIndex = "model.safetensors.index.json";

TensorToWrite one(const std::string& name, float value = 1.0f) {
  return f32_tensor(name, {1}, std::vector<float>{value});
}

class OpenTest : public testing::Test {
 protected:
  std::filesystem::path at(const std::string& name) const { return directory_.path() / name; }

  std::string error() const {
    try {
      Checkpoint::open(directory_.path());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    const auto checkpoint = Checkpoint::open(directory_.path());
    for (const auto& [name, tensor] : checkpoint->tensors()) result.push_back(name);
    return result;
  }
  float value(const std::string& name) const {
    float result = 0;
    Checkpoint::open(directory_.path())->read({.tensor = name, .out = 1, .vector = true}, 0, 1, {0, 1}, {&result, 1});
    return result;
  }

  TempDirectory directory_;
};

TEST_F(OpenTest, IndexNamesTheShards) {
  write_safetensors(at("a.safetensors"), {one("x", 1), one("y", 2)});
  write_safetensors(at("b.safetensors"), {one("z", 3)});
  write_safetensors(at("unnamed.safetensors"), {one("x", 4), one("unnamed")});
  write_file(at(kIndex),
             R"({"metadata": {}, "weight_map": {"x": "a.safetensors", "y": "a.safetensors", "z": "b.safetensors"}})");
  EXPECT_THAT(names(), testing::ElementsAre("x", "y", "z"));
  EXPECT_EQ(value("x"), 1);
  EXPECT_EQ(value("z"), 3);
}

TEST_F(OpenTest, IndexDecidesBetweenCopiesAndKeepsWhatItDoesNotName) {
  write_safetensors(at("a.safetensors"), {one("x", 1), one("surplus")});
  write_safetensors(at("b.safetensors"), {one("x", 2), one("y")});
  write_file(at(kIndex), R"({"weight_map": {"x": "b.safetensors", "y": "b.safetensors", "surplus": "a.safetensors"}})");
  EXPECT_EQ(value("x"), 2);
  write_file(at(kIndex), R"({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})");
  EXPECT_EQ(value("x"), 1);
  EXPECT_THAT(names(), testing::ElementsAre("surplus", "x", "y"));
}

TEST_F(OpenTest, WithoutIndexModelOrAllFiles) {
  write_safetensors(at("part2.safetensors"), {one("b")});
  write_safetensors(at("part1.safetensors"), {one("a")});
  EXPECT_THAT(names(), testing::ElementsAre("a", "b"));
  write_safetensors(at("part3.safetensors"), {one("a")});
  EXPECT_THAT(error(), AllOf(StartsWith(at("part3.safetensors").string()),
                             HasSubstr("tensor 'a' is also in " + at("part1.safetensors").string())));
  write_safetensors(at("model.safetensors"), {one("single")});
  EXPECT_THAT(names(), testing::ElementsAre("single"));
}

TEST_F(OpenTest, LinkedShardsAreFollowed) {
  TempDirectory elsewhere;
  write_safetensors(elsewhere.path() / "blob", {one("x", 5)});
  std::filesystem::create_symlink(elsewhere.path() / "blob", at("model.safetensors"));
  EXPECT_EQ(value("x"), 5);
}

TEST_F(OpenTest, NothingToOpen) {
  EXPECT_THAT(error(),
              HasSubstr("no weights: looked for model.safetensors.index.json, model.safetensors and *.safetensors"));
  write_file(at("pytorch_model.bin"), "x");
  EXPECT_THAT(error(), HasSubstr("pytorch_model.bin is of another format"));
  EXPECT_THROW(Checkpoint::open(at("pytorch_model.bin")), Error);
  EXPECT_THROW(Checkpoint::open(at("missing")), Error);
}

TEST_F(OpenTest, IncompleteDownloads) {
  write_safetensors(at("a.safetensors"), {one("x")});
  write_file(at(kIndex), R"({"weight_map": {"x": "a.safetensors", "y": "b.safetensors", "z": "c.safetensors"}})");
  EXPECT_THAT(error(), AllOf(HasSubstr("names files that are not in"), HasSubstr("\n  - b.safetensors"),
                             HasSubstr("\n  - c.safetensors")));
  write_file(at(kIndex), R"({"weight_map": {"x": "a.safetensors", "y": "a.safetensors"}})");
  EXPECT_THAT(error(), AllOf(HasSubstr("names tensors that are not in their files"),
                             HasSubstr("\n  - tensor 'y' in a.safetensors")));
  write_file(at("a.safetensors"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4976698672\n");
  EXPECT_THAT(error(), AllOf(HasSubstr("a.safetensors: is a Git LFS pointer"), HasSubstr("git lfs pull")));
  write_file(at("a.safetensors"), "");
  EXPECT_THAT(error(), HasSubstr("a.safetensors: 0 bytes are no safetensors file"));
  write_file(at("a.safetensors"), "<!DOCTYPE html><html>Not found</html>");
  EXPECT_THAT(error(), HasSubstr("is this a safetensors file?"));
}

TEST_F(OpenTest, LongListsOfProblemsAreCut) {
  std::string map;
  for (int i = 0; i < 1000; ++i)
    map += (i ? ",\"t" : "\"t") + std::to_string(i) + "\":\"s" + std::to_string(i) + ".safetensors\"";
  write_file(at(kIndex), "{\"weight_map\": {" + map + "}}");
  EXPECT_THAT(error(), HasSubstr("\n  - and 980 more"));
}

TEST_F(OpenTest, ShardsStayBelowTheDirectory) {
  write_safetensors(at("a.safetensors"), {one("x")});
  std::filesystem::create_directory(at("sub"));
  std::filesystem::copy_file(at("a.safetensors"), at("sub/a.safetensors"));
  write_file(at(kIndex), R"({"weight_map": {"x": "sub/a.safetensors"}})");
  EXPECT_THAT(names(), testing::ElementsAre("x"));
  for (const std::string shard : {"../a.safetensors", "sub/../a.safetensors", "..", "/etc/passwd", ""}) {
    write_file(at(kIndex), R"({"weight_map": {"x": ")" + shard + "\"}}");
    EXPECT_THAT(error(), AllOf(HasSubstr("bad \"weight_map\""), HasSubstr("lies outside the model's directory")))
        << shard;
  }
}

TEST_F(OpenTest, BadIndexes) {
  write_safetensors(at("a.safetensors"), {one("x")});
  const std::pair<const char*, const char*> cases[] = {
      {"", "json:1: "},
      {"{\n\"weight_map\": {\n", "json:2: "},
      {"[]", "no object \"weight_map\""},
      {"{\"weight_map\": []}", "no object \"weight_map\""},
      {"{\"weight_map\": {}}", "\"weight_map\" is empty"},
      {"{\"weight_map\": {\"x\": 1}}", "tensor 'x': expected the name of a file"},
      {"{\"weight_map\": {\"x\": \"a.safetensors\", \"x\": \"a.safetensors\"}}", "key \"x\" is given twice"},
      {"{\"weight_map\": {\"x\": \".\"}}", "is a directory"},
  };
  for (const auto& [text, expected] : cases) {
    write_file(at(kIndex), text);
    EXPECT_THAT(error(), HasSubstr(expected)) << text;
  }
}

}  // namespace
}  // namespace shoal
