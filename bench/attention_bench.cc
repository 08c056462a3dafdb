// SPDX-License-Identifier: Apache-2.0
// Attention through the backend's own interface. Arguments: bf16 (the cache's dtype), threads. Prefill: 512 new positions of one
// sequence, 8 KV heads of 128, two query heads each. Decode: one position of each of 32 sequences of 1024, the same heads; and of 4
// sequences of 2048 over a latent cache (128 heads, 576 and 512 wide). Long: one position of one sequence of 32768.
// Counters: beside_peaks.h; arithmetic counts visible positions only and is held against the rate of the cache's dtype, bytes are those of the
// cache, once.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <numeric>
#include <thread>

#include "backend/factory.h"
#include "beside_peaks.h"

namespace shoal {
namespace {

struct Workload {
  int64_t sequences, rows, context;
  int64_t heads, kv_heads, k_dim, v_dim;
  bool latent = false;

  double flops() const {
    const double visible =
        static_cast<double>(rows) * (static_cast<double>(context) - 0.5 * static_cast<double>(rows - 1));
    return 2.0 * static_cast<double>(sequences * heads * (k_dim + v_dim)) * visible;
  }
  double cache_elements() const {
    return static_cast<double>(sequences * context * kv_heads * (latent ? k_dim : k_dim + v_dim));
  }
};

constexpr int64_t kTokensPerBlock = 32;

Tensor some_rows(Backend& backend, int64_t tokens, int64_t heads, int64_t dim) {
  std::vector<float> values(static_cast<size_t>(tokens * heads * dim));
  uint32_t state = 1;
  for (float& value : values)
    value = static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-24f - 0.5f;
  return backend.from_host(std::span<const float>(values), {tokens, heads, dim});
}

// A cache in which sequence s has pages [s * pages of one, ...).
KvLayer fill_cache(Backend& backend, const Workload& work, DType dtype) {
  const int64_t pages = work.sequences * work.context / kTokensPerBlock;
  KvLayer layer;
  layer.k = backend.zeros(dtype, {pages, work.kv_heads, kTokensPerBlock, work.k_dim});
  if (!work.latent) layer.v = backend.zeros(dtype, {pages, work.kv_heads, kTokensPerBlock, work.v_dim});
  const Tensor k = some_rows(backend, work.context, work.kv_heads, work.k_dim);
  const Tensor v = work.latent ? Tensor() : some_rows(backend, work.context, work.kv_heads, work.v_dim);
  std::vector<int32_t> slots(static_cast<size_t>(work.context));
  for (int64_t s = 0; s < work.sequences; ++s) {
    std::iota(slots.begin(), slots.end(), static_cast<int32_t>(s * work.context));
    backend.kv_write(layer, k, v, slots);
  }
  return layer;
}

std::vector<SequenceSpan> spans_of(const Workload& work) {
  std::vector<SequenceSpan> spans;
  const int64_t pages = work.context / kTokensPerBlock;
  for (int64_t s = 0; s < work.sequences; ++s) {
    spans.push_back({.row_begin = s * work.rows,
                     .rows = work.rows,
                     .context = work.context,
                     .prompt_rows = 0,
                     .pages = std::vector<int32_t>(static_cast<size_t>(pages))});
    std::iota(spans.back().pages.begin(), spans.back().pages.end(), static_cast<int32_t>(s * pages));
  }
  return spans;
}

void run_attention(benchmark::State& state, const Workload& work) {
  const DType dtype = state.range(0) != 0 ? DType::kBF16 : DType::kF32;
  const int threads = static_cast<int>(state.range(1));
  const auto backend = make_backend(
      {.device = "cpu", .isa = bench::isa_under_test(), .threads = threads, .cores = bench::cores_for(threads)});
  const KvLayer layer = fill_cache(*backend, work, dtype);
  const std::vector<SequenceSpan> spans = spans_of(work);
  const Tensor q = some_rows(*backend, work.sequences * work.rows, work.heads, work.k_dim);
  const AttentionSpec spec = {.scale = 0.1f, .v_dim = work.v_dim};
  const bench::Work all{.bytes = work.cache_elements() * static_cast<double>(dtype_bytes(dtype)),
                        .flops = work.flops()};
  bench::run_beside_peaks(state, threads, {all}, dtype == DType::kBF16,
                          [&] { benchmark::DoNotOptimize(backend->attention(q, layer, spans, spec)); });
}

void cases(benchmark::internal::Benchmark* bench) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  for (const int threads : {1, cores})
    for (const int bf16 : {0, 1}) bench->Args({bf16, threads});
  bench->ArgNames({"bf16", "threads"})->UseManualTime()->Iterations(31)->Unit(benchmark::kMicrosecond);
}

// sequences, rows, context, heads, kv_heads, k_dim, v_dim
BENCHMARK_CAPTURE(run_attention, prefill, Workload{1, 512, 512, 16, 8, 128, 128})->Apply(cases);
BENCHMARK_CAPTURE(run_attention, decode, Workload{32, 1, 1024, 16, 8, 128, 128})->Apply(cases);
BENCHMARK_CAPTURE(run_attention, decode_latent, Workload{4, 1, 2048, 128, 1, 576, 512, true})->Apply(cases);
BENCHMARK_CAPTURE(run_attention, decode_long, Workload{1, 1, 32768, 16, 8, 128, 128})->Apply(cases);

}  // namespace
}  // namespace shoal
