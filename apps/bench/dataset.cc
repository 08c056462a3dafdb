// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/dataset.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "base/json_file.h"

namespace shoal::bench {
namespace {

constexpr int64_t kMostRequests = 10'000'000;

void check_range(std::vector<std::string>& problems, const char* flag, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return;
  problems.push_back(fmt::format("{} is {}, must be from {} to {}", flag, value, least, most));
}

bool is_synthetic(const std::string& name) { return name == "random" || name == "prefix"; }

std::string format_name(const DatasetOptions& options) {
  if (!options.name.empty()) return options.name;
  return options.path.empty() ? "random" : "jsonl";
}

}  // namespace

std::vector<std::string> dataset_problems(const DatasetOptions& options) {
  std::vector<std::string> problems;
  const std::string name = format_name(options);
  check_range(problems, "the number of requests", options.count, 0, kMostRequests);
  check_range(problems, "--output-len", options.output_tokens, -1, kMostTokens);
  if (options.output_tokens == 0)
    problems.emplace_back("--output-len is 0, must be at least 1, or -1 for the data's own");
  check_range(problems, "--random-input-len", options.input_len, 1, kMostTokens);
  check_range(problems, "--random-output-len", options.output_len, 1, kMostTokens);
  check_range(problems, "--random-prefix-len", options.prefix_len, 0, kMostTokens);
  check_range(problems, "--prefix-repetition-num-prefixes", options.num_prefixes, 1, kMostRequests);
  check_range(problems, "--prefix-repetition-prefix-len", options.shared_len, 0, kMostTokens);
  check_range(problems, "--prefix-repetition-suffix-len", options.suffix_len, 1, kMostTokens);
  check_range(problems, "--trace-block-tokens", options.trace_block_tokens, 1, kMostTokens);
  if (!(options.range_ratio >= 0 && options.range_ratio < 1))
    problems.push_back(fmt::format("--random-range-ratio is {}, must be at least 0 and below 1", options.range_ratio));
  if (!(options.input_stdev >= 0) || !(options.output_stdev >= 0))
    problems.push_back(fmt::format("--random-input-stdev {} and --random-output-stdev {} must not be negative",
                                   options.input_stdev, options.output_stdev));
  if (options.range_ratio > 0 && options.input_stdev + options.output_stdev > 0)
    problems.emplace_back("give either --random-range-ratio or standard deviations, not both");
  if (!(options.trace_speed > 0))
    problems.push_back(fmt::format("--trace-speed is {}, must be above 0", options.trace_speed));
  if (is_synthetic(name) && !options.path.empty())
    problems.push_back(
        fmt::format("the dataset {} is made up and reads no file; leave {} out, or name its format "
                    "(--dataset-name sharegpt, jsonl or trace)",
                    name, printable(options.path)));
  if (!is_synthetic(name) && options.path.empty())
    problems.push_back(fmt::format("the dataset {} needs a file; give --dataset-path", name));
  return problems;
}

BenchDataset make_dataset(const DatasetOptions& given, const TextTokens& tokens) {
  Problems problems;
  problems.append(dataset_problems(given));
  problems.throw_if_any("the dataset cannot be made");
  const std::string name = format_name(given);
  DatasetOptions options = given;
  if (is_synthetic(name) && options.output_tokens > 0) options.output_len = std::exchange(options.output_tokens, -1);
  BenchDataset data = name == "random"     ? random_dataset(options, tokens)
                      : name == "prefix"   ? prefix_dataset(options, tokens)
                      : name == "trace"    ? trace_dataset(options, tokens)
                      : name == "sharegpt" ? sharegpt_dataset(options, tokens)
                                           : jsonl_dataset(options, tokens);
  data.name = name;
  data.path = options.path;
  if (data.requests.empty())
    throw Error(ErrorKind::kInvalid, fmt::format("{} holds no request that can be used", options.path));
  if (options.output_tokens > 0) {
    for (BenchRequest& request : data.requests) request.output_tokens = options.output_tokens;
  }
  return data;
}

}  // namespace shoal::bench
