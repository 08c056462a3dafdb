// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/dataset_flags.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/json_file.h"

namespace shoal::bench {
namespace {

struct Spelling {
  const char* name;
  const char* format;
};
constexpr Spelling kFormats[] = {{"random", "random"},
                                 {"sharegpt", "sharegpt"},
                                 {"jsonl", "jsonl"},
                                 {"custom", "jsonl"},
                                 {"trtllm", "jsonl"},
                                 {"prefix", "prefix"},
                                 {"prefix_repetition", "prefix"},
                                 {"trace", "trace"},
                                 {"timed_trace", "trace"},
                                 {"mooncake", "trace"}};

}  // namespace

void declare_dataset_flags(CLI::App& app, DatasetOptions& options) {
  const auto add = [&](const char* names, auto& field, const char* help) {
    app.add_option(names, field, help)->capture_default_str()->group("Requests");
  };
  app.add_option(
         "--dataset-name", options.name,
         "random, sharegpt, jsonl (custom), prefix (prefix_repetition), trace (timed_trace, mooncake); default: "
         "jsonl with a file, else random")
      ->group("Requests");
  add("--dataset-path,--dataset", options.path, "file of the dataset; - reads JSON lines from standard input");
  add("--num-prompts,--num-requests", options.count, "requests; 0: all of a file, 100 of others");
  add("--seed", options.seed, "of made-up requests, their order and their arrivals");
  add("--random-input-len,--input-len", options.input_len, "prompt tokens of made-up requests");
  add("--random-output-len", options.output_len, "tokens that made-up requests generate");
  add("--output-len,--max-tokens,--sharegpt-output-len,--custom-output-len,--prefix-repetition-output-len",
      options.output_tokens, "tokens that every request generates; -1: as the data says");
  add("--random-range-ratio", options.range_ratio, "lengths are drawn evenly from len*(1-r) to len*(1+r)");
  add("--random-input-stdev,--input-stdev", options.input_stdev, "lengths are drawn from a normal distribution");
  add("--random-output-stdev,--output-stdev", options.output_stdev, "the same for outputs");
  add("--random-prefix-len", options.prefix_len, "tokens that all made-up prompts begin with, besides their length");
  add("--prefix-repetition-num-prefixes", options.num_prefixes, "prefix: how many there are");
  add("--prefix-repetition-prefix-len", options.shared_len, "prefix: tokens of each");
  add("--prefix-repetition-suffix-len", options.suffix_len, "prefix: tokens behind it, each request's own");
  add("--trace-block-tokens", options.trace_block_tokens, "trace: tokens that one of hash_ids stands for");
  add("--trace-speed", options.trace_speed, "trace: times as fast as it was recorded");
  app.add_flag("--disable-shuffle", options.keep_order, "sharegpt: the file's first conversations, in order")
      ->group("Requests");
}

void settle_dataset_name(DatasetOptions& options) {
  if (options.name.empty()) return;
  std::string names;
  for (const Spelling& spelling : kFormats) {
    names += (names.empty() ? "" : ", ") + std::string(spelling.name);
    if (options.name != spelling.name) continue;
    options.name = spelling.format;
    return;
  }
  throw Error(ErrorKind::kInvalid,
              fmt::format("--dataset-name is {}, must be one of {}", printable(options.name, 40), names));
}

void declare_arrival_flags(CLI::App& app, ArrivalOptions& options) {
  const auto add = [&](const char* names, auto& field, const char* help) {
    app.add_option(names, field, help)->capture_default_str()->group("Arrivals");
  };
  add("--request-rate", options.request_rate, "requests a second; inf: all at once");
  add("--burstiness", options.burstiness, "1: Poisson arrivals; below: burstier, above: more even, inf: even");
  add("--ramp-up-strategy", options.ramp_up_strategy, "linear or exponential, from one rate to another");
  add("--ramp-up-start-rps", options.ramp_up_start_rps, "requests a second at the start");
  add("--ramp-up-end-rps", options.ramp_up_end_rps, "requests a second at the end");
}

}  // namespace shoal::bench
