// SPDX-License-Identifier: Apache-2.0
// The engine under load, random weights of two model shapes, all ratios within one run:
//   decode     32 sequences generate together: a step's time against what its weights' bytes or its arithmetic need at the least; the MoE with
//              float32 activations, the default of models with routers, and in bfloat16, as the dense one
//   overhead   64 sequences: planning, sampling, and text and callbacks as shares of the time; how long ranks wait between steps, with and
//              without the overlap of planning and computing
//   reuse      time to first token of a prompt of which 1,000 tokens are cached, beside the same without the cache
//   cp_memory  bytes of KV cache of a rank under cp 4, beside cp 1
// Peaks are sampled around every round, which is kept short by prompts that the cache holds; ratios are medians over rounds.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "machine.h"
#include "shapes.h"
#include "timing.h"

namespace shoal {
namespace {

constexpr int64_t kPrompt = 32;
constexpr int64_t kNewTokens = 17;
constexpr int64_t kFewTokens = 6;  // between samples of the peaks
constexpr int kSamples = 5;        // each time
constexpr int kDecodes = 15;
constexpr int kRounds = 5;

int cores() { return static_cast<int>(std::thread::hardware_concurrency()); }

std::vector<int32_t> prompt_of(int64_t tokens, int64_t salt, int64_t vocab) {
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < tokens; ++i) prompt.push_back(static_cast<int32_t>((i * 7919 + salt * 104729 + 1) % vocab));
  return prompt;
}

EngineConfig config_of(int64_t batch) {
  EngineConfig config;
  config.isa = bench::isa_under_test();
  config.threads_per_rank = cores();
  config.load_format = "dummy";
  config.max_batch_size = batch;
  config.max_num_tokens = 2048;
  config.max_seq_len = 2048;
  config.kv_cache.max_tokens = batch * 128;
  config.kv_cache.enable_block_reuse = false;
  return config;
}

class Served {
 public:
  Served(const bench::ModelShape& shape, const EngineConfig& config)
      : shape_(shape), directory_(shape), engine_(std::make_unique<Engine>(directory_.path(), config)) {}

  std::vector<std::vector<int32_t>> new_prompts(int64_t batch) {
    std::vector<std::vector<int32_t>> prompts;
    for (int64_t i = 0; i < batch; ++i) prompts.push_back(prompt_of(kPrompt, ++salt_, shape_.vocab));
    return prompts;
  }

  // Time of a step in which all sequences generate a token, drawn evenly, so that the next ones' experts are as for any text.
  double step_seconds(const std::vector<std::vector<int32_t>>& prompts, int64_t tokens = kNewTokens) {
    SamplingParams params;
    params.max_tokens = tokens;
    params.ignore_eos = true;
    params.temperature = 1;
    std::vector<double> at;
    engine_->generate(prompts, params, [&](size_t index, const OutputDelta&) {
      if (index == 0) at.push_back(bench::seconds_now());
    });
    std::vector<double> steps;
    for (size_t i = 2; i < at.size(); ++i) steps.push_back(at[i] - at[i - 1]);
    return bench::median(steps);
  }
  double step_seconds(int64_t batch) { return step_seconds(new_prompts(batch)); }

  double first_token_seconds(const std::vector<int32_t>& prompt) {
    SamplingParams params;
    params.max_tokens = 1;
    params.ignore_eos = true;
    return engine_->generate({prompt}, params).front().times.first_token_seconds;
  }

  Engine& engine() { return *engine_; }
  const bench::ModelShape& shape() const { return shape_; }

 private:
  const bench::ModelShape& shape_;
  bench::ShapeDirectory directory_;
  std::unique_ptr<Engine> engine_;
  int64_t salt_ = 0;
};

// What a step of `rows` generated tokens takes at the least: weights are bf16, of experts those that some row picks.
struct Bound {
  double by_layer = 0;    // all of a layer is read while all of it is computed
  double by_product = 0;  // one product after another: the dense ones of a layer, then its experts
};

Bound bound_seconds(const bench::ModelShape& shape, int64_t rows, const bench::Peaks& peaks, double gflop_s) {
  const double count = static_cast<double>(rows);
  const auto slower = [&](double weights_read, double products) {
    return std::max(2e-9 * weights_read / peaks.read_gb_s, 2e-9 * count * products / gflop_s);
  };
  const auto products = static_cast<double>(shape.layer_weights(shape.top_k));
  const auto dense = static_cast<double>(shape.experts > 0 ? shape.layer_weights(0) : shape.layer_weights(shape.top_k));
  double read = products;
  if (shape.experts > 0) {
    const double experts = static_cast<double>(shape.experts), picks = static_cast<double>(shape.top_k);
    const auto picked = static_cast<int64_t>(std::lround(experts * (1.0 - std::pow(1.0 - picks / experts, count))));
    read = static_cast<double>(shape.layer_weights(picked));
  }
  const auto layers = static_cast<double>(shape.layers), head = static_cast<double>(shape.head_products());
  return {.by_layer = layers * slower(read, products) + slower(head, head),
          .by_product = layers * (slower(dense, dense) + slower(read - dense, products - dense)) + slower(head, head)};
}

void decode(benchmark::State& state, const bench::ModelShape& shape, const std::string& dtype) {
  const int64_t batch = state.range(0);
  EngineConfig config = config_of(batch);
  config.dtype = dtype;
  config.kv_cache.enable_block_reuse = true;
  Served served(shape, config);
  const auto prompts = served.new_prompts(batch);
  served.step_seconds(prompts, kFewTokens);
  const bool pairs = shape.experts == 0 || dtype == "bfloat16";
  std::vector<double> steps, of_layers, of_products;
  bench::PeakMeter meter(cores());
  for (auto _ : state) {
    const double step = served.step_seconds(prompts, kFewTokens);
    const bench::Peaks peaks = meter.since_last(kSamples);
    const Bound bound = bound_seconds(shape, batch, peaks, pairs ? peaks.bf16_gflop_s : peaks.f32_gflop_s);
    state.SetIterationTime(step);
    steps.push_back(step);
    of_layers.push_back(bound.by_layer / step);
    of_products.push_back(bound.by_product / step);
  }
  state.counters["step_ms"] = 1e3 * bench::median(steps);
  state.counters["tok_s"] = static_cast<double>(batch) / bench::median(steps);
  state.counters["of_bound"] = bench::median(of_layers);
  state.counters["of_product_bound"] = bench::median(of_products);
}

struct Shares {
  double planning = 0, sampling = 0, output = 0, idle = 0;
};

Shares shares_of(Served& served, int64_t batch) {
  const EngineStats before = served.engine().stats();
  const double begin = bench::seconds_now();
  served.step_seconds(batch);
  const double wall = bench::seconds_now() - begin;
  const EngineStats after = served.engine().stats();
  return {.planning = (after.steps.planning_seconds - before.steps.planning_seconds) / wall,
          .sampling = (after.steps.sampling_seconds - before.steps.sampling_seconds) / wall,
          .output = (after.steps.output_seconds - before.steps.output_seconds) / wall,
          .idle = (after.ranks[0].idle_seconds - before.ranks[0].idle_seconds) / wall};
}

void overhead(benchmark::State& state) {
  const int64_t batch = state.range(0);
  EngineConfig config = config_of(batch);
  Served ahead(bench::dense_shape(), config);
  config.disable_overlap_scheduler = true;
  Served after(bench::dense_shape(), config);
  ahead.step_seconds(batch);
  after.step_seconds(batch);
  std::vector<double> planning, sampling, output, idle, idle_without, faster;
  for (auto _ : state) {
    const Shares shares = shares_of(ahead, batch), without = shares_of(after, batch);
    const double step = ahead.step_seconds(batch), step_without = after.step_seconds(batch);
    state.SetIterationTime(step);
    planning.push_back(shares.planning);
    sampling.push_back(shares.sampling);
    output.push_back(shares.output);
    idle.push_back(shares.idle);
    idle_without.push_back(without.idle);
    faster.push_back(step_without / step);
  }
  state.counters["planning"] = bench::median(planning);
  state.counters["sampling"] = bench::median(sampling);
  state.counters["output"] = bench::median(output);
  state.counters["idle"] = bench::median(idle);
  state.counters["idle_no_overlap"] = bench::median(idle_without);
  state.counters["speedup"] = bench::median(faster);
}

void reuse(benchmark::State& state) {
  constexpr int64_t kPrefix = 1000, kOwn = 16;
  EngineConfig config = config_of(1);
  config.kv_cache.max_tokens = 4096;
  Served fresh(bench::dense_shape(), config);
  config.kv_cache.enable_block_reuse = true;
  Served cached(bench::dense_shape(), config);
  const int64_t vocab = bench::dense_shape().vocab;
  std::vector<int32_t> prompt = prompt_of(kPrefix, 0, vocab);
  cached.first_token_seconds(prompt);
  std::vector<double> with, without;
  for (auto _ : state) {
    const std::vector<int32_t> own = prompt_of(kOwn, std::ssize(with) + 1, vocab);
    prompt.resize(kPrefix);
    prompt.insert(prompt.end(), own.begin(), own.end());
    with.push_back(cached.first_token_seconds(prompt));
    without.push_back(fresh.first_token_seconds(prompt));
    state.SetIterationTime(with.back());
  }
  state.counters["cached_ms"] = 1e3 * bench::median(with);
  state.counters["fresh_ms"] = 1e3 * bench::median(without);
  state.counters["speedup"] = bench::median(without) / bench::median(with);
}

void cp_memory(benchmark::State& state) {
  const auto kv_bytes = [](int64_t cp) {
    EngineConfig config = config_of(1);
    config.context_parallel_size = cp;
    config.threads_per_rank = 1;
    config.kv_cache.max_tokens = 2048;
    Served served(bench::dense_shape(), config);
    const EngineInfo& info = served.engine().info();
    int64_t most = 0;
    for (const RankPlan& plan : info.plans)
      most = std::max(most, plan.kv_bytes(info.kv.pages, config.kv_cache.tokens_per_block));
    return static_cast<double>(most);
  };
  for (auto _ : state) state.counters["share"] = kv_bytes(4) / kv_bytes(1);
}

void dense_decode(benchmark::State& state) { decode(state, bench::dense_shape(), "auto"); }
void moe_decode(benchmark::State& state) { decode(state, bench::moe_shape(), "auto"); }
void moe_decode_bf16(benchmark::State& state) { decode(state, bench::moe_shape(), "bfloat16"); }

BENCHMARK(dense_decode)->ArgName("sequences")->Arg(32)->UseManualTime()->Iterations(kDecodes);
BENCHMARK(moe_decode)->ArgName("sequences")->Arg(32)->UseManualTime()->Iterations(kDecodes);
BENCHMARK(moe_decode_bf16)->ArgName("sequences")->Arg(32)->UseManualTime()->Iterations(kDecodes);
BENCHMARK(overhead)->ArgName("sequences")->Arg(64)->UseManualTime()->Iterations(kRounds);
BENCHMARK(reuse)->UseManualTime()->Iterations(kRounds);
BENCHMARK(cp_memory)->Iterations(1);

}  // namespace
}  // namespace shoal
