// SPDX-License-Identifier: Apache-2.0
// Dense products through the backend's own interface. Arguments: rows, out, in, threads. Counters: beside_peaks.h; the bytes are those of
// the weights. `tree_beside_chain`: what the sum as a tree over eighths costs, as the median time of a layer's products (the dense shape's) over
// that of the same with one chain everywhere.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "backend/factory.h"
#include "beside_peaks.h"
#include "timing.h"

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

struct Case {
  DType dtype;
  MatrixKind kind;
  bool cold;  // more copies of the weights than any cache holds, in turn; else one
};

void run_gemm(benchmark::State& state, const Case& which) {
  const int64_t rows = state.range(0), out = state.range(1), in = state.range(2);
  const int threads = static_cast<int>(state.range(3));
  const auto backend = make_backend(
      {.device = "cpu", .isa = bench::isa_under_test(), .threads = threads, .cores = bench::cores_for(threads)});
  const MatrixSpec spec{
      .out = out, .in = in, .kind = which.kind, .dtype = which.dtype, .k_slice = {0, in}, .k_total = in};
  const int64_t bytes = backend->matrix_bytes(spec);
  const std::vector<float> values = some_values(out * in);
  std::vector<Matrix> weights(static_cast<size_t>(which.cold ? std::max<int64_t>(kColdBytes / bytes, 1) : 1));
  for (Matrix& matrix : weights) {
    matrix = backend->new_matrix(spec);
    backend->fill_rows(matrix, 0, out, values);
  }
  const std::vector<float> x_values = some_values(rows * in);
  const Tensor x = backend->from_host(std::span<const float>(x_values), {rows, in});
  const bench::Work work{.bytes = which.cold ? static_cast<double>(bytes) : 0.0,
                         .flops = 2.0 * static_cast<double>(rows * out * in)};
  size_t next = 0;
  bench::run_beside_peaks(state, threads, {work}, which.dtype == DType::kBF16, [&] {
    benchmark::DoNotOptimize(backend->matmul(x, weights[next], Tensor()));
    next = (next + 1) % weights.size();
  });
}

struct Product {
  int64_t out, in;
  bool row;  // o_proj and down_proj
};
constexpr Product kLayer[] = {{4096, 1024, false}, {1024, 2048, true}, {6144, 1024, false}, {1024, 3072, true}};
constexpr size_t kLayers = 8;  // more than a cache holds

// All layers' products, one after the other; `tree`: row products as such, else as column products.
class Layers {
 public:
  Layers(Backend& backend, int64_t rows, bool tree) : backend_(backend) {
    for (const Product& product : kLayer) {
      const std::vector<float> x = some_values(rows * product.in);
      inputs_.push_back(backend.from_host(std::span<const float>(x), {rows, product.in}));
    }
    for (size_t i = 0; i < kLayers * std::size(kLayer); ++i) {
      const Product& product = kLayer[i % std::size(kLayer)];
      weights_.push_back(backend.new_matrix({.out = product.out,
                                             .in = product.in,
                                             .kind = tree && product.row ? MatrixKind::kRow : MatrixKind::kColumn,
                                             .k_slice = {0, product.in},
                                             .k_total = product.in}));
      backend.fill_rows(weights_.back(), 0, product.out, some_values(product.out * product.in));
    }
  }

  double seconds() const {
    const auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < weights_.size(); ++i)
      benchmark::DoNotOptimize(backend_.matmul(inputs_[i % inputs_.size()], weights_[i], Tensor()));
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  Backend& backend_;
  std::vector<Tensor> inputs_;
  std::vector<Matrix> weights_;
};

void tree_beside_chain(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(1));
  const auto backend = make_backend(
      {.device = "cpu", .isa = bench::isa_under_test(), .threads = threads, .cores = bench::cores_for(threads)});
  const bench::StayOn stay(bench::cores_for(threads));
  const Layers chain(*backend, state.range(0), false), tree(*backend, state.range(0), true);
  std::vector<double> ratios;
  for (auto _ : state) {
    const double before = chain.seconds(), seconds = tree.seconds(), after = chain.seconds();
    ratios.push_back(2 * seconds / (before + after));
    state.SetIterationTime(seconds);
  }
  state.counters["slowdown"] = bench::median(ratios);
}

void rows_and_threads(benchmark::internal::Benchmark* bench) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  for (const int threads : {1, cores})
    for (const int64_t rows : {1, 32, 512}) bench->Args({rows, threads});
  bench->ArgNames({"rows", "threads"})->UseManualTime()->Iterations(31)->Unit(benchmark::kMicrosecond);
}

void shapes(benchmark::internal::Benchmark* bench) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  for (const int threads : {1, cores}) {
    for (const int64_t rows : {1, 4, 16, 32, 64, 512}) bench->Args({rows, 3072, 1024, threads});
    for (const int64_t rows : {1, 8, 64}) bench->Args({rows, 768, 1024, threads});
    for (const int64_t rows : {1, 16, 512}) bench->Args({rows, 1024, 3072, threads});
  }
  bench->ArgNames({"rows", "out", "in", "threads"})->UseManualTime()->Iterations(31)->Unit(benchmark::kMicrosecond);
}

BENCHMARK_CAPTURE(run_gemm, column_bf16, Case{DType::kBF16, MatrixKind::kColumn, true})->Apply(shapes);
BENCHMARK_CAPTURE(run_gemm, column_bf16_hot, Case{DType::kBF16, MatrixKind::kColumn, false})->Apply(shapes);
BENCHMARK_CAPTURE(run_gemm, row_bf16, Case{DType::kBF16, MatrixKind::kRow, true})->Apply(shapes);
BENCHMARK(tree_beside_chain)->Apply(rows_and_threads);
BENCHMARK_CAPTURE(run_gemm, column_f32, Case{DType::kF32, MatrixKind::kColumn, true})->Apply(shapes);

}  // namespace
}  // namespace shoal
