// SPDX-License-Identifier: Apache-2.0
// A layer's routed experts, 64 of them, top-8, hidden 1024, intermediate 384, random routing: gate/up, activation, down, weighted sum.
// Arguments: tokens, threads. Counters: beside_peaks.h; the bound is the sum over the experts hit of the larger of their reading and their
// arithmetic.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <thread>

#include "backend/factory.h"
#include "beside_peaks.h"

namespace shoal {
namespace {

constexpr int64_t kExperts = 64;
constexpr int64_t kTopK = 8;
constexpr int64_t kHidden = 1024;
constexpr int64_t kFfn = 384;

ExpertMatrices random_experts(Backend& backend) {
  std::vector<float> values(static_cast<size_t>(2 * kFfn * kHidden));
  std::mt19937 rng(1);
  for (float& value : values) value = static_cast<float>(rng() >> 8) * 0x1p-24f - 0.5f;
  ExpertMatrices experts;
  for (int64_t e = 0; e < kExperts; ++e) {
    experts.gate_up.push_back(backend.new_matrix({.out = 2 * kFfn, .in = kHidden, .kind = MatrixKind::kGateUp}));
    backend.fill_rows(experts.gate_up.back(), 0, 2 * kFfn, values);
    experts.down.push_back(backend.new_matrix(
        {.out = kHidden, .in = kFfn, .kind = MatrixKind::kRow, .k_slice = {0, kFfn}, .k_total = kFfn}));
    backend.fill_rows(experts.down.back(), 0, kHidden, std::span(values).first(static_cast<size_t>(kHidden * kFfn)));
  }
  return experts;
}

struct Routes {
  std::vector<int32_t> slots;
  std::vector<int64_t> rows_of_expert = std::vector<int64_t>(kExperts, 0);
};

Routes random_routes(int64_t tokens) {
  std::mt19937 rng(2);
  std::vector<int32_t> experts(kExperts);
  for (size_t e = 0; e < experts.size(); ++e) experts[e] = static_cast<int32_t>(e);
  Routes routes;
  for (int64_t t = 0; t < tokens; ++t) {
    std::shuffle(experts.begin(), experts.end(), rng);
    routes.slots.insert(routes.slots.end(), experts.begin(), experts.begin() + kTopK);
    for (int64_t k = 0; k < kTopK; ++k) ++routes.rows_of_expert[static_cast<size_t>(experts[static_cast<size_t>(k)])];
  }
  return routes;
}

// Each expert that is hit.
std::vector<bench::Work> work_of(const Routes& routes) {
  const double weights = 3.0 * static_cast<double>(kHidden * kFfn);
  std::vector<bench::Work> parts;
  for (const int64_t rows : routes.rows_of_expert)
    if (rows > 0) parts.push_back({.bytes = 2 * weights, .flops = 2 * weights * static_cast<double>(rows)});
  return parts;
}

void run_moe(benchmark::State& state) {
  const int64_t tokens = state.range(0);
  const int threads = static_cast<int>(state.range(1));
  const auto backend = make_backend(
      {.device = "cpu", .isa = bench::isa_under_test(), .threads = threads, .cores = bench::cores_for(threads)});
  const ExpertMatrices experts = random_experts(*backend);
  const Routes routes = random_routes(tokens);
  const std::vector<float> x(static_cast<size_t>(tokens * kHidden), 0.25f);
  const std::vector<float> weights(static_cast<size_t>(tokens * kTopK), 0.125f);
  const ExpertBatch batch{.rows = backend->from_host(std::span<const float>(x), {tokens, kHidden}),
                          .slots = backend->from_host(std::span<const int32_t>(routes.slots), {tokens, kTopK}),
                          .weights = backend->from_host(std::span<const float>(weights), {tokens, kTopK})};
  bench::run_beside_peaks(state, threads, work_of(routes), true,
                          [&] { benchmark::DoNotOptimize(backend->experts_sum(batch, experts)); });
}

void batches(benchmark::internal::Benchmark* bench) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  for (const int threads : {1, cores}) {
    for (const int64_t tokens : {1, 8, 32, 128, 512}) bench->Args({tokens, threads});
  }
  bench->ArgNames({"tokens", "threads"})->UseManualTime()->Iterations(31)->Unit(benchmark::kMicrosecond);
}

BENCHMARK(run_moe)->Apply(batches);

}  // namespace
}  // namespace shoal
