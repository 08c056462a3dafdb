// SPDX-License-Identifier: Apache-2.0
// A stream of prompts that changes its domain, with experts that stay and with experts that move: imbalance of each step's picks over EP
// ranks before a switch, right after it and once the balancer has caught up, and what steps that move experts cost. Not a Google Benchmark:
//   wide_ep_bench --prompts F.json --domains bible,go,chat [--model models/shoal-tiny] [--ranks 8] [--slots 40] [--layers 2] [--requests 96]
//                 [--rounds 3]
// F.json: {"domain": ["text", ...], ...}. Every run has the same requests in the same order, so the same steps: step i of one run has the tokens
// of step i of any other, and the three kinds of run (contiguous experts, slots that stay, slots that move) alternate.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace shoal {
namespace {

constexpr int64_t kPieceTokens = 96;
constexpr int64_t kGenerated = 24;
constexpr size_t kFirst = 4;    // steps that count as right after a switch
constexpr size_t kWindow = 12;  // steps over which it is judged whether the balancer has caught up

struct Arguments {
  std::string model = "models/shoal-tiny", prompts;
  std::vector<std::string> domains;
  int64_t ranks = 8, slots = 40, layers = 2, requests = 96, rounds = 3;
};

Arguments parse(int count, char** values) {
  Arguments result;
  std::map<std::string, int64_t*> numbers = {{"--ranks", &result.ranks},
                                             {"--slots", &result.slots},
                                             {"--layers", &result.layers},
                                             {"--requests", &result.requests},
                                             {"--rounds", &result.rounds}};
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string flag = values[i], value = values[i + 1];
    if (flag == "--model") result.model = value;
    if (flag == "--prompts") result.prompts = value;
    if (const auto found = numbers.find(flag); found != numbers.end()) *found->second = std::stoll(value);
    if (flag != "--domains") continue;
    for (size_t begin = 0; begin <= value.size();) {
      const size_t end = std::min(value.find(',', begin), value.size());
      result.domains.push_back(value.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  return result;
}

using Prompts = std::vector<std::vector<int32_t>>;

// By domain: as many pieces of its texts, taken in turn.
std::vector<Prompts> read_domains(const Arguments& arguments) {
  const auto json = nlohmann::json::parse(std::ifstream(arguments.prompts));
  const Tokenizer tokenizer = Tokenizer::load(arguments.model);
  std::vector<Prompts> result;
  for (const std::string& domain : arguments.domains) {
    Prompts pieces;
    for (const std::string text : json.at(domain)) {
      const std::vector<int32_t> ids = tokenizer.encode(text, true);
      for (size_t begin = 0; begin < ids.size(); begin += kPieceTokens)
        pieces.emplace_back(ids.begin() + static_cast<int64_t>(begin),
                            ids.begin() + static_cast<int64_t>(std::min(begin + kPieceTokens, ids.size())));
    }
    Prompts& prompts = result.emplace_back();
    for (int64_t i = 0; i < arguments.requests; ++i) prompts.push_back(pieces[i % std::ssize(pieces)]);
  }
  return result;
}

enum class Kind { kContiguous, kSlotsStay, kSlotsMove };

EngineConfig config_of(const Arguments& arguments, Kind kind) {
  EngineConfig config;
  config.tensor_parallel_size = arguments.ranks;
  config.enable_attention_dp = true;
  config.moe_expert_parallel_size = arguments.ranks;
  config.max_batch_size = 4;
  config.max_num_tokens = 128;
  config.kv_cache.max_tokens = 2048;
  config.threads_per_rank = 1;
  config.deterministic = true;
  if (kind == Kind::kContiguous) return config;
  auto& balancer = config.moe.load_balancer.emplace();
  balancer.num_slots = arguments.slots;
  balancer.layer_updates_per_iter = kind == Kind::kSlotsMove ? arguments.layers : 0;
  return config;
}

struct Run {
  std::vector<StepRecord> steps;
  std::vector<size_t> begins;  // of each domain, into steps
  std::vector<std::vector<int32_t>> tokens;
  ExpertStatus status;
};

Run run_stream(const Arguments& arguments, Kind kind, const std::vector<Prompts>& domains) {
  Engine engine(arguments.model, config_of(arguments, kind));
  Run run;
  for (const Prompts& prompts : domains) {
    run.begins.push_back(static_cast<size_t>(engine.step_stats().steps));
    for (const GenerationResult& result : engine.generate(prompts, {.max_tokens = kGenerated, .ignore_eos = true}))
      run.tokens.push_back(result.token_ids);
  }
  run.status = engine.expert_status().front();
  run.steps.assign(run.status.steps.begin(), run.status.steps.end());
  return run;
}

double imbalance(const std::vector<StepRecord>& steps, size_t begin, size_t end) {
  double heaviest = 0, mean = 0;
  for (size_t i = begin; i < std::min(end, steps.size()); ++i) {
    heaviest += steps[i].heaviest_picks;
    mean += steps[i].mean_picks;
  }
  return mean > 0 ? heaviest / mean - 1 : 0;
}

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return std::nan("");
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(q * static_cast<double>(values.size())))];
}

void print_balance(const Arguments& arguments, const Run& still, const Run& stay, const Run& move) {
  fmt::print(
      "imbalance (max/mean - 1 of picks over EP ranks, by step and layer): of a domain without moves; with them, of "
      "its first {} steps,\n"
      "of its second half but the last tenth, and after how many steps {} steps first are within 15 % of that\n",
      kFirst, kWindow);
  fmt::print("{:>10} {:>12} {:>12} {:>14} {:>12} {:>12}\n", "domain", "contiguous", "slots stay", "right after",
             "at the end", "steps to it");
  for (size_t d = 0; d < move.begins.size(); ++d) {
    const size_t begin = move.begins[d], end = d + 1 < move.begins.size() ? move.begins[d + 1] : move.steps.size();
    const double last = imbalance(move.steps, begin + (end - begin) / 2, end - (end - begin) / 10);
    size_t caught = begin;
    while (caught + kWindow < end && imbalance(move.steps, caught, caught + kWindow) > last * 1.15) ++caught;
    fmt::print("{:>10} {:>12.3f} {:>12.3f} {:>14.3f} {:>12.3f} {:>12}\n", arguments.domains[d],
               imbalance(still.steps, begin, end), imbalance(stay.steps, begin, end),
               imbalance(move.steps, begin, begin + kFirst), last, caught - begin);
  }
}

// Steps in which any run of kind "move" moved something, in both kinds of run.
void print_times(const std::vector<Run>& quiet, const std::vector<Run>& moving) {
  std::vector<double> with, without, copies, waits;
  for (size_t i = 0; i < moving.size(); ++i) {
    const size_t steps = std::min(moving[i].steps.size(), quiet[i].steps.size());
    for (size_t s = 1; s < steps; ++s) {
      const StepRecord& step = moving[i].steps[s];
      if (step.copied_bytes == 0 && step.flips == 0) continue;
      with.push_back(1e3 * step.seconds);
      without.push_back(1e3 * quiet[i].steps[s].seconds);
      copies.push_back(1e3 * step.copy_seconds);
      waits.push_back(1e3 * step.wait_seconds);
    }
  }
  fmt::print("\nsteps that move experts: {}; ms, beside the same steps without moves\n", with.size());
  for (const double q : {0.5, 0.99})
    fmt::print(
        "  {:>4.0f} %: {:.3f} and {:.3f}, ratio {:.3f}; copies computed {:.3f} meanwhile, the step waited {:.3f}\n",
        100 * q, quantile(with, q), quantile(without, q), quantile(with, q) / quantile(without, q), quantile(copies, q),
        quantile(waits, q));
  const auto over = [&](double most) { return std::ranges::count_if(waits, [&](double ms) { return ms > most; }); };
  fmt::print("  steps that waited longer than 0.1, 1 and 10 ms: {}, {}, {}; the longest {:.3f} ms\n", over(0.1),
             over(1), over(10), waits.empty() ? 0.0 : *std::ranges::max_element(waits));
}

int run(const Arguments& arguments) {
  const std::vector<Prompts> domains = read_domains(arguments);
  std::vector<Run> contiguous, stay, move;
  for (int64_t i = 0; i < arguments.rounds; ++i) {
    contiguous.push_back(run_stream(arguments, Kind::kContiguous, domains));
    stay.push_back(run_stream(arguments, Kind::kSlotsStay, domains));
    move.push_back(run_stream(arguments, Kind::kSlotsMove, domains));
  }
  print_balance(arguments, contiguous.front(), stay.front(), move.front());
  print_times(stay, move);
  const ExpertStatus& status = move.front().status;
  fmt::print("\nmoved: {} layers, {} copies, {} bytes, {} given up; {} plans in {:.1f} ms, copies in {:.1f} ms\n",
             status.moves.layers, status.moves.copies, status.moves.bytes, status.moves.given_up, status.plans,
             1e3 * status.planning_seconds, 1e3 * status.copying_seconds);
  double seconds = 0;
  for (const StepRecord& step : move.front().steps) seconds += step.seconds;
  fmt::print("counting, all {} ranks together: {:.2f} % of one core's time over {} steps\n", arguments.ranks,
             100 * status.counting_seconds / seconds, move.front().steps.size());
  bool same = true;
  for (const Run& other : move) same = same && other.tokens == contiguous.front().tokens;
  fmt::print("tokens of all runs {}\n", same ? "are identical" : "DIFFER");
  return same ? 0 : 1;
}

}  // namespace
}  // namespace shoal

int main(int count, char** values) {
  const shoal::Arguments arguments = shoal::parse(count, values);
  if (arguments.prompts.empty() || arguments.domains.empty()) {
    fmt::print(stderr, "wide_ep_bench: --prompts F.json and --domains a,b,c are needed\n");
    return 2;
  }
  return shoal::run(arguments);
}
