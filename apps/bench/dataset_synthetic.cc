// SPDX-License-Identifier: Apache-2.0
// Made-up prompts: random tokens of chosen lengths, shared prefixes, and traces that give lengths, arrivals and which blocks of tokens
// requests have in common.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "apps/bench/dataset.h"
#include "apps/bench/dataset_lines.h"
#include "base/error.h"

namespace shoal::bench {
namespace {

using Random = std::mt19937_64;
using Json = nlohmann::ordered_json;

constexpr int64_t kMostTokensInAll = int64_t{1} << 30;

int64_t draw_between(Random& random, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
}

class Lengths {
 public:
  Lengths(int64_t length, double ratio, double stdev) : length_(length), stdev_(stdev) {
    const auto real = static_cast<double>(length);
    low_ = std::max<int64_t>(1, static_cast<int64_t>(std::floor(real * (1 - ratio))));
    high_ = std::max(low_, static_cast<int64_t>(std::ceil(real * (1 + ratio))));
  }
  int64_t most() const { return high_ + static_cast<int64_t>(8 * stdev_); }
  int64_t draw(Random& random) const {
    if (stdev_ == 0) return draw_between(random, low_, high_);
    std::normal_distribution<double> normal(static_cast<double>(length_), stdev_);
    return std::clamp<int64_t>(std::llround(normal(random)), 1, most());
  }

 private:
  int64_t length_, low_, high_;
  double stdev_;
};

class Prompts {
 public:
  explicit Prompts(const TextTokens& tokens) : ordinary_(tokens.ordinary) {
    if (ordinary_.empty())
      throw Error(ErrorKind::kInvalid, "no vocabulary is known to make prompts from; give --tokenizer DIR");
  }
  void append(std::vector<int32_t>& ids, Random& random, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) ids.push_back(ordinary_[random() % ordinary_.size()]);
  }

 private:
  const std::vector<int32_t>& ordinary_;
};

void check_total(int64_t requests, int64_t tokens) {
  if (requests <= kMostTokensInAll / std::max<int64_t>(tokens, 1)) return;
  throw Error(ErrorKind::kLimit, fmt::format("{} requests of {} prompt tokens are more than the {} tokens of a dataset",
                                             requests, tokens, kMostTokensInAll));
}

int64_t request_count(const DatasetOptions& options) { return options.count > 0 ? options.count : kDefaultRequests; }

// A line of a trace: {"timestamp": ms, "input_length", "output_length", "hash_ids": [...]}.
class TraceReader {
 public:
  TraceReader(const DatasetOptions& options, const TextTokens& tokens)
      : options_(options), prompts_(tokens), random_(options.seed) {}

  BenchRequest read(const Json& line) {
    BenchRequest request;
    const int64_t input = whole_number(line, "input_length", 1);
    total_ += input;
    check_total(1, total_);
    request.output_tokens = whole_number(line, "output_length", 1);
    request.at_s = time_ms(line) / 1e3 / options_.trace_speed;
    if (line.contains("hash_ids")) append_blocks(request.ids, line["hash_ids"], input);
    prompts_.append(request.ids, random_, input - static_cast<int64_t>(request.ids.size()));
    return request;
  }

 private:
  static double time_ms(const Json& line) {
    const auto at = line.find("timestamp");
    if (at == line.end() || !at->is_number()) throw Error(ErrorKind::kInvalid, "timestamp must be a number, in ms");
    return at->get<double>();
  }

  void append_blocks(std::vector<int32_t>& ids, const Json& blocks, int64_t input) {
    if (!blocks.is_array()) throw Error(ErrorKind::kInvalid, "hash_ids must be a list of whole numbers");
    for (const Json& block : blocks) {
      if (!block.is_number_integer()) throw Error(ErrorKind::kInvalid, "hash_ids must be a list of whole numbers");
      const int64_t left = input - static_cast<int64_t>(ids.size());
      const auto hash =
          block.is_number_unsigned() ? block.get<uint64_t>() : static_cast<uint64_t>(block.get<int64_t>());
      Random content(options_.seed ^ (hash * 0x9e3779b97f4a7c15U));
      prompts_.append(ids, content, std::min(left, options_.trace_block_tokens));
    }
  }

  const DatasetOptions& options_;
  Prompts prompts_;
  Random random_;
  int64_t total_ = 0;
};

}  // namespace

BenchDataset random_dataset(const DatasetOptions& options, const TextTokens& tokens) {
  const Prompts prompts(tokens);
  const Lengths inputs(options.input_len, options.range_ratio, options.input_stdev);
  const Lengths outputs(options.output_len, options.range_ratio, options.output_stdev);
  const int64_t count = request_count(options);
  check_total(count, inputs.most() + options.prefix_len);
  Random random(options.seed);
  std::vector<int32_t> prefix;
  prompts.append(prefix, random, options.prefix_len);
  BenchDataset data;
  for (int64_t i = 0; i < count; ++i) {
    BenchRequest& request = data.requests.emplace_back();
    request.ids = prefix;
    prompts.append(request.ids, random, inputs.draw(random));
    request.output_tokens = outputs.draw(random);
  }
  return data;
}

BenchDataset prefix_dataset(const DatasetOptions& options, const TextTokens& tokens) {
  const Prompts prompts(tokens);
  const int64_t count = request_count(options);
  check_total(count, options.shared_len + options.suffix_len);
  Random random(options.seed);
  std::vector<std::vector<int32_t>> prefixes(std::min(options.num_prefixes, count));
  for (std::vector<int32_t>& prefix : prefixes) prompts.append(prefix, random, options.shared_len);
  BenchDataset data;
  for (int64_t i = 0; i < count; ++i) {
    BenchRequest& request = data.requests.emplace_back();
    request.ids = prefixes[i % prefixes.size()];
    prompts.append(request.ids, random, options.suffix_len);
    request.output_tokens = options.output_len;
  }
  // Requests of the same prefix do not follow each other in rounds.
  for (size_t i = data.requests.size(); i > 1; --i) std::swap(data.requests[i - 1], data.requests[random() % i]);
  return data;
}

BenchDataset trace_dataset(const DatasetOptions& options, const TextTokens& tokens) {
  TraceReader reader(options, tokens);
  BenchDataset data;
  data.timed = true;
  data.requests = read_lines(options.path, options.count, [&](const Json& line) { return reader.read(line); });
  const auto earlier = [](const BenchRequest& a, const BenchRequest& b) { return a.at_s < b.at_s; };
  std::stable_sort(data.requests.begin(), data.requests.end(), earlier);
  if (data.requests.empty()) return data;
  const double first = data.requests.front().at_s;
  for (BenchRequest& request : data.requests) request.at_s -= first;
  return data;
}

}  // namespace shoal::bench
