// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"

namespace shoal::bench {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// One id a character.
TextTokens characters() {
  TextTokens tokens;
  tokens.ordinary.resize(90);
  std::iota(tokens.ordinary.begin(), tokens.ordinary.end(), 10);
  tokens.encode = [](const std::string& text) { return std::vector<int32_t>(text.begin(), text.end()); };
  return tokens;
}

class DatasetFiles : public testing::Test {
 protected:
  DatasetFiles() : file_(std::filesystem::temp_directory_path() / ("shoal_data_" + std::to_string(getpid()))) {
    options_.path = file_.string();
  }
  ~DatasetFiles() override { std::filesystem::remove(file_); }

  BenchDataset read(const std::string& name, const std::string& text) {
    std::ofstream(file_) << text;
    options_.name = name;
    return make_dataset(options_, characters());
  }
  std::string error(const std::string& name, const std::string& text) {
    try {
      read(name, text);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  const std::filesystem::path file_;
  DatasetOptions options_;
};

TEST(RandomDataset, LengthsSeedsAndPrefixes) {
  DatasetOptions options;
  options.count = 500;
  options.input_len = 20;
  options.output_len = 8;
  options.range_ratio = 0.5;
  options.prefix_len = 3;
  const BenchDataset data = make_dataset(options, characters());
  ASSERT_EQ(data.requests.size(), 500u);
  std::set<size_t> inputs;
  std::set<int64_t> outputs;
  for (const BenchRequest& request : data.requests) {
    inputs.insert(request.ids.size());
    outputs.insert(request.output_tokens);
    EXPECT_TRUE(std::equal(request.ids.begin(), request.ids.begin() + 3, data.requests[0].ids.begin()));
    for (const int32_t id : request.ids) EXPECT_TRUE(id >= 10 && id < 100);
  }
  EXPECT_EQ(*inputs.begin(), 13u);
  EXPECT_EQ(*inputs.rbegin(), 33u);
  EXPECT_EQ(*outputs.begin(), 4);
  EXPECT_EQ(*outputs.rbegin(), 12);
  EXPECT_EQ(make_dataset(options, characters()).requests[7].ids, data.requests[7].ids);
  options.seed = 1;
  EXPECT_NE(make_dataset(options, characters()).requests[7].ids, data.requests[7].ids);
}

TEST(RandomDataset, NormalLengths) {
  DatasetOptions options;
  options.count = 4000;
  options.input_len = 100;
  options.input_stdev = 10;
  options.output_tokens = 5;
  double sum = 0, squares = 0;
  for (const BenchRequest& request : make_dataset(options, characters()).requests) {
    const auto length = static_cast<double>(request.ids.size());
    sum += length;
    squares += length * length;
    EXPECT_EQ(request.output_tokens, 5);
  }
  EXPECT_NEAR(sum / 4000, 100, 1);
  EXPECT_NEAR(std::sqrt(squares / 4000 - sum / 4000 * sum / 4000), 10, 0.5);
}

TEST(PrefixDataset, EachPrefixIsSharedByItsShare) {
  DatasetOptions options;
  options.name = "prefix";
  options.count = 30;
  options.num_prefixes = 3;
  options.shared_len = 16;
  options.suffix_len = 4;
  std::map<std::vector<int32_t>, int> uses;
  for (const BenchRequest& request : make_dataset(options, characters()).requests) {
    ASSERT_EQ(request.ids.size(), 20u);
    ++uses[{request.ids.begin(), request.ids.begin() + 16}];
  }
  ASSERT_EQ(uses.size(), 3u);
  for (const auto& [prefix, count] : uses) EXPECT_EQ(count, 10);
}

TEST_F(DatasetFiles, LinesOfEveryForm) {
  const BenchDataset data = read("jsonl", R"({"task_id": 0, "prompt": "abc", "output_tokens": 7}
{"task_id": 1, "input_ids": [5, 6], "output_tokens": 3}
{"task_id": 2, "prompt": null, "logits": [9], "output_tokens": 1}

{"prompt": [1, 2, 3], "max_tokens": 4}
{"prompt": "only"})");
  ASSERT_EQ(data.requests.size(), 5u);
  EXPECT_EQ(data.requests[0].ids, (std::vector<int32_t>{'a', 'b', 'c'}));
  EXPECT_EQ(data.requests[0].text, "abc");
  EXPECT_EQ(data.requests[0].output_tokens, 7);
  EXPECT_EQ(data.requests[1].ids, (std::vector<int32_t>{5, 6}));
  EXPECT_EQ(data.requests[2].ids, (std::vector<int32_t>{9}));
  EXPECT_EQ(data.requests[3].output_tokens, 4);
  EXPECT_EQ(data.requests[4].output_tokens, kDefaultOutputTokens);
}

TEST_F(DatasetFiles, CountsAndOutputLengths) {
  options_.count = 2;
  options_.output_tokens = 9;
  const BenchDataset data =
      read("jsonl", "{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"output_tokens\": 3}\n{nonsense\n");
  ASSERT_EQ(data.requests.size(), 2u) << "what is not needed is not read";
  EXPECT_EQ(data.requests[1].output_tokens, 9);
}

TEST_F(DatasetFiles, EveryBadLineIsCounted) {
  std::string text =
      "{\"prompt\": \"fine\"}\n{\n[]\n{}\n{\"prompt\": \"\"}\n{\"prompt\": \"a\", \"output_tokens\": 0}\n";
  text +=
      "{\"input_ids\": [1, -2]}\n{\"input_ids\": [99999999999]}\n{\"prompt\": 3}\n{\"prompt\": \"a\", "
      "\"output_tokens\": 1e9}\n";
  EXPECT_THAT(error("jsonl", text),
              AllOf(HasSubstr("9 of 10 lines cannot be used"), HasSubstr("line 2: "),
                    HasSubstr("line 5: the prompt is empty"), HasSubstr("line 7: -2 is no token id")));
  for (int i = 0; i < 20; ++i) text += "{}\n";
  EXPECT_THAT(error("jsonl", text), AllOf(HasSubstr("29 of 30"), HasSubstr("and 19 more")));
  EXPECT_THAT(error("jsonl", ""), HasSubstr("holds no request"));
  EXPECT_THAT(error("jsonl", std::string(2000, '[')), HasSubstr("1 of 1 lines"));
  EXPECT_THAT(error("jsonl", std::string("\0\xff\xfe", 3)), HasSubstr("1 of 1 lines"));
}

TEST_F(DatasetFiles, FilesThatAreNone) {
  options_.path = "/dev/zero";
  options_.name = "jsonl";
  EXPECT_THROW(make_dataset(options_, characters()), Error);
  options_.path = "/tmp";
  EXPECT_THROW(make_dataset(options_, characters()), Error);
  options_.name = "sharegpt";
  EXPECT_THROW(make_dataset(options_, characters()), Error);
}

TEST_F(DatasetFiles, ShareGptTakesTheFirstTwoTurns) {
  options_.keep_order = true;
  const BenchDataset data = read("sharegpt", R"([
    {"id": "a", "conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "hi there"}, {"from": "human", "value": "x"}]},
    {"id": "one turn", "conversations": [{"from": "human", "value": "alone"}]},
    {"id": "too short", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "long enough"}]},
    {"id": "others", "tags": [{"value": "not a turn"}], "conversations": [{"value": "second", "from": "human"}, {"value": "answer", "from": "gpt"}]}])");
  ASSERT_EQ(data.requests.size(), 2u);
  EXPECT_EQ(data.requests[0].text, "hello");
  EXPECT_EQ(data.requests[0].output_tokens, 8);
  EXPECT_EQ(data.requests[1].text, "second");
  EXPECT_THAT(error("sharegpt", "{}"), HasSubstr("list"));
  EXPECT_THAT(error("sharegpt", "[1]"), HasSubstr("list of objects"));
  EXPECT_THAT(error("sharegpt", "[[]]"), HasSubstr("list of conversations"));
  EXPECT_THAT(error("sharegpt", "[{\"conversations\": [{\"value\": "), HasSubstr(":1"));
  EXPECT_THAT(error("sharegpt", "[{\"a\":" + std::string(100, '[')), HasSubstr("deeper"));
  EXPECT_THAT(error("sharegpt", "[]"), HasSubstr("holds no request"));
}

TEST_F(DatasetFiles, TracesShareBlocks) {
  options_.trace_block_tokens = 4;
  options_.trace_speed = 2;
  const BenchDataset data =
      read("trace", R"({"timestamp": 3000, "input_length": 10, "output_length": 2, "hash_ids": [1, 2, 3]}
{"timestamp": 1000, "input_length": 9, "output_length": 5, "hash_ids": [1, 2, 4]}
{"timestamp": 2000, "input_length": 6, "output_length": 1})");
  ASSERT_EQ(data.requests.size(), 3u);
  EXPECT_TRUE(data.timed);
  EXPECT_EQ(data.requests[0].at_s, 0);
  EXPECT_EQ(data.requests[1].at_s, 0.5);
  EXPECT_EQ(data.requests[2].at_s, 1);
  const std::vector<int32_t>& a = data.requests[0].ids;
  const std::vector<int32_t>& b = data.requests[2].ids;
  ASSERT_EQ(a.size(), 9u);
  ASSERT_EQ(b.size(), 10u);
  EXPECT_EQ(data.requests[1].ids.size(), 6u);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 8, b.begin()));
  EXPECT_NE(a[8], b[8]);
  EXPECT_THAT(error("trace", R"({"timestamp": "x", "input_length": 10, "output_length": 2})"), HasSubstr("timestamp"));
  EXPECT_THAT(error("trace", R"({"timestamp": 1, "output_length": 2})"), HasSubstr("input_length"));
  EXPECT_THAT(error("trace", R"({"timestamp": 1, "input_length": 5, "output_length": 2, "hash_ids": ["a"]})"),
              HasSubstr("hash_ids"));
}

TEST(DatasetProblems, AllAtOnce) {
  DatasetOptions options;
  EXPECT_TRUE(dataset_problems(options).empty());
  options.count = -1;
  options.input_len = 0;
  options.range_ratio = 1;
  options.path = "file.json";
  options.name = "random";
  EXPECT_EQ(dataset_problems(options).size(), 4u);
  options = {};
  options.name = "sharegpt";
  EXPECT_THAT(dataset_problems(options), testing::ElementsAre(HasSubstr("--dataset-path")));
  options = {};
  options.count = 10'000'000;
  options.input_len = 1 << 20;
  EXPECT_THROW(make_dataset(options, characters()), Error) << "more tokens than memory";
}

}  // namespace
}  // namespace shoal::bench
