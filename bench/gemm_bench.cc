// SPDX-License-Identifier: Apache-2.0
// Dense products through the backend's own interface, weights cold (more copies than any cache holds, in turn). Arguments: rows, out, in,
// threads. Counters are of the fastest call: GF_s and GB_s (of weights), and their shares of the machine's peaks measured just before.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "backend/factory.h"
#include "machine.h"

namespace shoal {
namespace {

constexpr int64_t kColdBytes = int64_t{256} << 20;

std::vector<float> some_values(int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  uint32_t state = 1;
  for (float& value : values)
    value = static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-24f - 0.5f;
  return values;
}

struct Shape4 {
  int64_t rows, out, in;
  int threads;
};

void run_gemm(benchmark::State& state, DType dtype, MatrixKind kind) {
  const Shape4 shape{state.range(0), state.range(1), state.range(2), static_cast<int>(state.range(3))};
  const auto backend = make_backend({.device = "cpu", .isa = "", .threads = shape.threads, .cores = {}});
  const MatrixSpec spec{
      .out = shape.out, .in = shape.in, .kind = kind, .dtype = dtype, .k_slice = {0, shape.in}, .k_total = shape.in};
  const int64_t bytes = backend->matrix_bytes(spec);
  const std::vector<float> values = some_values(shape.out * shape.in);
  std::vector<Matrix> weights(static_cast<size_t>(std::max<int64_t>(kColdBytes / bytes, 1)));
  for (Matrix& matrix : weights) {
    matrix = backend->new_matrix(spec);
    backend->fill_rows(matrix, 0, shape.out, values);
  }
  const std::vector<float> rows = some_values(shape.rows * shape.in);
  const Tensor x = backend->from_host(std::span<const float>(rows), {shape.rows, shape.in});
  const bench::Peaks peaks = bench::measure_peaks(shape.threads);
  double best = 1e30;
  size_t next = 0;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    benchmark::DoNotOptimize(backend->matmul(x, weights[next], Tensor()));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
    next = (next + 1) % weights.size();
  }
  const double gflops = 2e-9 * static_cast<double>(shape.rows * shape.out * shape.in) / best;
  const double gbytes = 1e-9 * static_cast<double>(bytes) / best;
  state.counters["GF_s"] = gflops;
  state.counters["of_dot"] = gflops / (dtype == DType::kF32 ? peaks.f32_gflop_s : peaks.bf16_gflop_s);
  state.counters["GB_s"] = gbytes;
  state.counters["of_read"] = gbytes / peaks.read_gb_s;
}

void shapes(benchmark::internal::Benchmark* bench) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  for (const int threads : {1, cores}) {
    for (const int64_t rows : {1, 4, 16, 64, 512}) bench->Args({rows, 3072, 1024, threads});
    for (const int64_t rows : {1, 8, 64}) bench->Args({rows, 768, 1024, threads});
    for (const int64_t rows : {1, 16, 512}) bench->Args({rows, 1024, 3072, threads});
  }
  bench->ArgNames({"rows", "out", "in", "threads"})->UseManualTime()->MinTime(0.2)->Unit(benchmark::kMicrosecond);
}

BENCHMARK_CAPTURE(run_gemm, column_bf16, DType::kBF16, MatrixKind::kColumn)->Apply(shapes);
BENCHMARK_CAPTURE(run_gemm, row_bf16, DType::kBF16, MatrixKind::kRow)->Apply(shapes);
BENCHMARK_CAPTURE(run_gemm, column_f32, DType::kF32, MatrixKind::kColumn)->Apply(shapes);

}  // namespace
}  // namespace shoal
