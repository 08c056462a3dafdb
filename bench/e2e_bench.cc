// SPDX-License-Identifier: Apache-2.0
// Requests through the whole engine, random weights of two model shapes in bfloat16: time to first token of a prompt of 512, time per
// further token of one request, and tokens a second of 32 requests at once. The machine's peaks are sampled before and after each; the
// ratios are medians. Generated tokens are timed a few at a time behind a prompt that the cache holds, so that samples are close. The other
// benchmarks hold two configurations side by side, requests in turn: `slowdown_*` is the median time of the second over that of the first.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "machine.h"
#include "shapes.h"
#include "timing.h"

namespace shoal {
namespace {

constexpr int64_t kPrompt = 512;
constexpr int64_t kNewTokens = 33;
constexpr int64_t kFewTokens = 9;  // between samples of the peaks
constexpr int kSamples = 5;        // each time
constexpr int kDecodes = 6;        // such requests for one of prefill
constexpr int64_t kBatch = 32;
constexpr int64_t kBatchPrompt = 16;
constexpr int kRequests = 7;

int cores() { return static_cast<int>(std::thread::hardware_concurrency()); }

struct Ranks {
  int64_t tp = 1;
  int64_t threads = 1;
  bool deterministic = false;
};

class Served {
 public:
  Served(const bench::ModelShape& shape, Ranks ranks) : shape_(shape), directory_(shape) {
    EngineConfig config;
    config.isa = bench::isa_under_test();
    config.tensor_parallel_size = ranks.tp;
    config.threads_per_rank = ranks.threads;
    config.deterministic = ranks.deterministic;
    config.dtype = "bfloat16";
    config.load_format = "dummy";
    config.max_batch_size = kBatch;
    config.max_num_tokens = kPrompt;
    config.kv_cache.max_tokens = 4096;
    engine_ = std::make_unique<Engine>(directory_.path(), config);
    kept_ = prompt(kPrompt);
  }

  struct Times {
    double prefill = 0;
    double token = 0;
  };
  Times request() { return time(prompt(kPrompt), kNewTokens); }
  double prefill_seconds() { return time(prompt(kPrompt), 1).prefill; }
  double token_seconds() { return time(kept_, kFewTokens).token; }
  // Tokens a second of kBatch requests, from when each has its first token on.
  double batch_tokens_per_second() {
    std::vector<std::vector<int32_t>> prompts;
    for (int64_t i = 0; i < kBatch; ++i) prompts.push_back(prompt(kBatchPrompt));
    std::vector<double> at;
    size_t begun = 0, first = 0;
    std::vector<bool> seen(prompts.size());
    engine_->generate(prompts, params(kNewTokens), [&](size_t index, const OutputDelta&) {
      at.push_back(bench::seconds_now());
      if (seen[index]) return;
      seen[index] = true;
      if (++begun == prompts.size()) first = at.size() - 1;
    });
    return static_cast<double>(at.size() - 1 - first) / (at.back() - at[first]);
  }
  double prefill_gflop() const {
    return 2e-9 * static_cast<double>(kPrompt * shape_.token_products() + shape_.head_products() +
                                      shape_.attention_products(kPrompt));
  }
  // Weights and cache in bf16, at the middle of the generated tokens.
  double token_gbyte() const {
    return 2e-9 * static_cast<double>(shape_.token_products() + shape_.head_products() +
                                      shape_.cache_elements(kPrompt + kFewTokens / 2));
  }

 private:
  std::vector<int32_t> prompt(int64_t tokens) {
    std::vector<int32_t> ids;
    ++salt_;
    for (int64_t i = 0; i < tokens; ++i)
      ids.push_back(static_cast<int32_t>((i * 7919 + salt_ * 104729) % shape_.vocab));
    return ids;
  }
  Times time(const std::vector<int32_t>& prompt, int64_t tokens) {
    std::vector<double> at;
    const double start = bench::seconds_now();
    engine_->generate({prompt}, params(tokens),
                      [&](size_t, const OutputDelta&) { at.push_back(bench::seconds_now()); });
    return {at.front() - start, (at.back() - at.front()) / std::max(1.0, static_cast<double>(at.size()) - 1)};
  }
  static SamplingParams params(int64_t tokens) {
    SamplingParams params;
    params.max_tokens = tokens;
    params.ignore_eos = true;
    return params;
  }

  const bench::ModelShape& shape_;
  bench::ShapeDirectory directory_;
  std::unique_ptr<Engine> engine_;
  std::vector<int32_t> kept_;
  int64_t salt_ = 0;
};

void one_request(benchmark::State& state, const bench::ModelShape& shape) {
  Served served(shape, {1, state.range(0)});
  served.request();
  bench::PeakMeter meter(static_cast<int>(state.range(0)));
  std::vector<double> prefill, token, batch, of_dot, of_read;
  for (auto _ : state) {
    meter.since_last(kSamples);
    prefill.push_back(served.prefill_seconds());
    of_dot.push_back(served.prefill_gflop() / prefill.back() / meter.since_last(kSamples).bf16_gflop_s);
    state.SetIterationTime(prefill.back());
    served.token_seconds();  // the cache holds its prompt from here on
    meter.since_last(kSamples);
    for (int i = 0; i < kDecodes; ++i) {
      token.push_back(served.token_seconds());
      of_read.push_back(served.token_gbyte() / token.back() / meter.since_last(kSamples).read_gb_s);
    }
    batch.push_back(served.batch_tokens_per_second());
  }
  state.counters["prefill_tok_s"] = static_cast<double>(kPrompt) / bench::median(prefill);
  state.counters["decode_tok_s"] = 1 / bench::median(token);
  state.counters["batch32_tok_s"] = bench::median(batch);
  state.counters["prefill_of_dot"] = bench::median(of_dot);
  state.counters["decode_of_read"] = bench::median(of_read);
}

void side_by_side(benchmark::State& state, const bench::ModelShape& shape, Ranks first, Ranks second) {
  Served one(shape, first), other(shape, second);
  one.request();
  other.request();
  std::vector<double> prefill[2], token[2];
  for (auto _ : state) {
    const Served::Times a = one.request(), b = other.request();
    state.SetIterationTime(a.prefill + b.prefill);
    prefill[0].push_back(a.prefill);
    prefill[1].push_back(b.prefill);
    token[0].push_back(a.token);
    token[1].push_back(b.token);
  }
  state.counters["slowdown_prefill"] = bench::median(prefill[1]) / bench::median(prefill[0]);
  state.counters["slowdown_decode"] = bench::median(token[1]) / bench::median(token[0]);
}

void dense(benchmark::State& state) { one_request(state, bench::dense_shape()); }
void moe(benchmark::State& state) { one_request(state, bench::moe_shape()); }
// One thread on each of as many ranks as cores, beside as many threads on one rank.
void ranks_beside_threads(benchmark::State& state) {
  side_by_side(state, bench::dense_shape(), {1, cores()}, {cores(), 1});
}
// What `deterministic` costs.
void deterministic_beside_default(benchmark::State& state) {
  side_by_side(state, bench::moe_shape(), {1, cores()}, {1, cores(), true});
}
// More ranks than cores must wait without burning them.
void eight_ranks_beside_two(benchmark::State& state) { side_by_side(state, bench::dense_shape(), {2, 1}, {8, 1}); }

BENCHMARK(dense)->ArgName("threads")->Arg(1)->Arg(cores())->UseManualTime()->Iterations(kRequests);
BENCHMARK(moe)->ArgName("threads")->Arg(1)->Arg(cores())->UseManualTime()->Iterations(kRequests);
BENCHMARK(ranks_beside_threads)->UseManualTime()->Iterations(kRequests);
BENCHMARK(deterministic_beside_default)->UseManualTime()->Iterations(kRequests);
BENCHMARK(eight_ranks_beside_two)->UseManualTime()->Iterations(kRequests);

}  // namespace
}  // namespace shoal
