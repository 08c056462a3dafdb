// SPDX-License-Identifier: Apache-2.0
// Requests to measure with: read from files, or made up from lengths and a seed. The same seed, file and vocabulary give the same
// requests. Not here: the flags that choose them (dataset_flags.h), when they are sent (arrivals.h).
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace shoal::bench {

constexpr int64_t kMostTokens = 1 << 26;  // of one request
constexpr size_t kShownProblems = 10;     // of bad requests

struct BenchRequest {
  std::vector<int32_t> ids;         // the prompt; empty where only text or messages are known
  std::string text;                 // the prompt as text, if the data gave one
  nlohmann::ordered_json messages;  // a chat; null: none
  int64_t output_tokens = 0;
  double at_s = 0;  // arrival, in a trace
};

struct BenchDataset {
  std::string name;  // random, sharegpt, jsonl, prefix, trace
  std::string path;  // empty: made up
  bool timed = false;
  std::vector<BenchRequest> requests;
};

// Text and token ids of the model, from its tokenizer or a server's.
struct TextTokens {
  std::function<std::vector<int32_t>(const std::string&)> encode;
  std::function<std::vector<int32_t>(const nlohmann::ordered_json& messages)>
      encode_chat;  // empty: chats stay messages
  // Ids that a made-up prompt may hold: no special tokens.
  std::vector<int32_t> ordinary;
};

// Everything that the flags can say about data.
struct DatasetOptions {
  std::string name;  // empty: jsonl with a path, else random
  std::string path;
  int64_t count = 0;  // requests; 0: all of a file, or kDefaultRequests
  uint64_t seed = 0;
  int64_t output_tokens = -1;  // of each request, whatever the data says; -1: as the data says
  int64_t input_len = 1024;    // random
  int64_t output_len = 128;
  double range_ratio = 0;  // lengths uniform in [(1 - r) len, (1 + r) len]
  double input_stdev = 0;  // lengths normal, as trtllm-bench prepare-dataset makes them; not with range_ratio
  double output_stdev = 0;
  int64_t prefix_len = 0;     // tokens that all random prompts begin with, besides input_len
  int64_t num_prefixes = 10;  // prefix
  int64_t shared_len = 256;
  int64_t suffix_len = 256;
  int64_t trace_block_tokens = 512;
  double trace_speed = 1;
  bool keep_order =
      false;  // of a file; else requests are drawn from it in random order where the format is a pool (ShareGPT)
};
constexpr int64_t kDefaultRequests = 100;
// Where a line of a file names no output length.
constexpr int64_t kDefaultOutputTokens = 256;

// What is wrong with the options alone.
std::vector<std::string> dataset_problems(const DatasetOptions& options);
// Error with what is wrong, with the file's lines counted.
BenchDataset make_dataset(const DatasetOptions& options, const TextTokens& tokens);

// One kind each; `tokens.ordinary` must not be empty where prompts are made up.
BenchDataset random_dataset(const DatasetOptions& options, const TextTokens& tokens);
BenchDataset prefix_dataset(const DatasetOptions& options, const TextTokens& tokens);
BenchDataset trace_dataset(const DatasetOptions& options, const TextTokens& tokens);
BenchDataset jsonl_dataset(const DatasetOptions& options, const TextTokens& tokens);
BenchDataset sharegpt_dataset(const DatasetOptions& options, const TextTokens& tokens);

}  // namespace shoal::bench
