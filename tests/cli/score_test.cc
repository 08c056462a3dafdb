// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/cli/run_shoal.h"

namespace shoal::cli {
namespace {

using nlohmann::json;

// A safetensors file, read by its definition: u64 length, JSON header, data.
struct TensorFile {
  json header;
  std::string data;

  explicit TensorFile(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    uint64_t length = 0;
    in.read(reinterpret_cast<char*>(&length), sizeof length);
    std::string text(length, ' ');
    in.read(text.data(), static_cast<std::streamsize>(length));
    header = json::parse(text);
    data.assign(std::istreambuf_iterator<char>(in), {});
  }
  std::vector<float> values(const std::string& name) const {
    const size_t begin = header[name]["data_offsets"][0], end = header[name]["data_offsets"][1];
    std::vector<float> result((end - begin) / sizeof(float));
    std::memcpy(result.data(), data.data() + begin, end - begin);
    return result;
  }
};

Outcome score(const std::string& input, const std::string& output, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"score", kTiny, "--input", input, "--output", output, "--dtype", "float32"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_shoal(arguments);
}

const char* const kPrompts =
    R"({"prompts": [[1, 768, 272, 3280, 1499, 782, 2821], [1], "And it came to pass", [1, 2, 536, 3619, 19, 5, 3]]})";

TEST(Score, FileHasEveryRowOfEveryPrompt) {
  const Scratch scratch;
  const std::string input = scratch.file("in.json", kPrompts), output = scratch.path("out.safetensors");
  const Outcome outcome = score(input, output);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  const TensorFile file(output);
  EXPECT_EQ(file.header.size(), 4u);
  EXPECT_EQ(file.header["logits_0"]["dtype"], "F32");
  EXPECT_EQ(file.header["logits_0"]["shape"], json::parse("[7, 4096]"));
  EXPECT_EQ(file.header["logits_1"]["shape"], json::parse("[1, 4096]"));
  for (const auto& [name, tensor] : file.header.items())
    for (const float value : file.values(name)) ASSERT_TRUE(std::isfinite(value));
  // Nothing but the file itself is left behind.
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(output).parent_path()))
    files += entry.is_regular_file();
  EXPECT_EQ(files, 2u);
}

TEST(Score, NextTokenIsTheReferences) {
  const Scratch scratch;
  const std::string output = scratch.path("out.safetensors");
  ASSERT_EQ(score(scratch.file("in.json", kPrompts), output).code, 0);
  const json golden = json::parse(std::ifstream("models/shoal-tiny/golden.json"));
  const std::vector<float> logits = TensorFile(output).values("logits_0");
  const std::vector<float> last(logits.end() - 4096, logits.end());
  const auto best = std::max_element(last.begin(), last.end());
  const json& expected = golden["cases"][0]["greedy"][0];
  EXPECT_EQ(best - last.begin(), expected["token"].get<int>());
  double sum = 0;
  for (const float logit : last) sum += std::exp(static_cast<double>(logit) - *best);
  EXPECT_NEAR(-std::log(sum), expected["logprob"].get<double>(), 2e-4);
}

TEST(Score, SameInAnotherLayoutAndInChunks) {
  const Scratch scratch;
  const std::string input = scratch.file("in.json", kPrompts);
  const std::string whole = scratch.path("whole"), cut = scratch.path("cut");
  ASSERT_EQ(score(input, whole).code, 0);
  const Outcome outcome = score(input, cut, {"--pp", "2", "--tp", "2", "--adp", "--ep", "2", "--max-num-tokens", "3"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const TensorFile first(whole), second(cut);
  for (const auto& [name, tensor] : first.header.items()) {
    const std::vector<float> a = first.values(name), b = second.values(name);
    ASSERT_EQ(a.size(), b.size());
    float worst = 0;
    for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
    EXPECT_LT(worst, 2e-4f) << name;
  }
}

TEST(Score, FailureLeavesNoFile) {
  const Scratch scratch;
  const std::string output = scratch.path("out.safetensors");
  EXPECT_EQ(score(scratch.file("in.json", R"({"prompts": [[1, 4096]]})"), output).code, 2);
  EXPECT_EQ(score(scratch.file("in.json", kPrompts), scratch.path("missing/out")).code, 2);
  EXPECT_FALSE(std::filesystem::exists(output));
}

}  // namespace
}  // namespace shoal::cli
