// SPDX-License-Identifier: Apache-2.0
// Time to first token of one long prompt: two context-parallel ranks of one thread each beside one rank with two threads, random weights of
// the dense shape, requests in turn. `slowdown` is the median time of the former over that of the latter.
#include <benchmark/benchmark.h>

#include <vector>

#include "engine/engine.h"
#include "shapes.h"
#include "timing.h"

namespace shoal {
namespace {

constexpr int64_t kPrompt = 4096;
constexpr int kRequests = 5;

EngineConfig config_of(int64_t cp, int64_t threads) {
  EngineConfig config;
  config.context_parallel_size = cp;
  config.threads_per_rank = threads;
  config.load_format = "dummy";
  config.max_batch_size = 1;
  config.max_num_tokens = kPrompt;
  config.max_seq_len = kPrompt + 1;
  config.kv_cache.max_tokens = 2 * kPrompt;
  config.kv_cache.enable_block_reuse = false;
  return config;
}

class Served {
 public:
  explicit Served(const EngineConfig& config)
      : directory_(bench::dense_shape()), engine_(std::make_unique<Engine>(directory_.path(), config)) {}

  double prefill() {
    std::vector<int32_t> prompt;
    for (int64_t i = 0; i < kPrompt; ++i)
      prompt.push_back(static_cast<int32_t>((i * 7919 + ++salt_) % bench::dense_shape().vocab));
    SamplingParams params;
    params.max_tokens = 1;
    params.ignore_eos = true;
    const double start = bench::seconds_now();
    engine_->generate({prompt}, params);
    return bench::seconds_now() - start;
  }

 private:
  bench::ShapeDirectory directory_;
  std::unique_ptr<Engine> engine_;
  int64_t salt_ = 0;
};

void beside_threads(benchmark::State& state, const std::string& prefill_type) {
  Served threads(config_of(1, 2));
  EngineConfig config = config_of(2, 1);
  config.cp.prefill_type = prefill_type;
  Served ranks(config);
  threads.prefill();
  ranks.prefill();
  std::vector<double> times[2];
  for (auto _ : state) {
    times[0].push_back(threads.prefill());
    times[1].push_back(ranks.prefill());
    state.SetIterationTime(times[0].back() + times[1].back());
  }
  state.counters["threads_s"] = bench::median(times[0]);
  state.counters["ranks_s"] = bench::median(times[1]);
  state.counters["slowdown"] = bench::median(times[1]) / bench::median(times[0]);
}

void ring_prefill(benchmark::State& state) { beside_threads(state, "RING"); }
void ulysses_prefill(benchmark::State& state) { beside_threads(state, "ULYSSES"); }

BENCHMARK(ring_prefill)->UseManualTime()->Iterations(kRequests)->Unit(benchmark::kSecond);
BENCHMARK(ulysses_prefill)->UseManualTime()->Iterations(kRequests)->Unit(benchmark::kSecond);

}  // namespace
}  // namespace shoal
