// SPDX-License-Identifier: Apache-2.0
// Routed experts: against the reference backend, and bits (docs/architecture.md section 4, rule 5 and batch invariance).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "backend/factory.h"

namespace shoal {
namespace {

using Values = std::vector<float>;

struct Layer {
  int64_t slots = 6, hidden = 100, ffn = 36;
  DType dtype = DType::kBF16;
  bool bias = false;
  bool weight_on_input = false;
  GateSpec gate{};
};

Values random_values(int64_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, 0.3f);
  Values values(static_cast<size_t>(count));
  for (float& value : values) value = normal(rng);
  return values;
}

std::unique_ptr<Backend> backend_of(const std::string& isa, int threads = 1) {
  return make_backend({.device = isa == "reference" ? "reference" : "cpu",
                       .isa = isa == "reference" ? "" : isa,
                       .threads = threads,
                       .cores = {}});
}

Matrix filled(Backend& backend, const MatrixSpec& spec, uint32_t seed) {
  const Matrix matrix = backend.new_matrix(spec);
  backend.fill_rows(matrix, 0, spec.out, random_values(spec.out * spec.in, seed));
  return matrix;
}

ExpertMatrices experts_of(Backend& backend, const Layer& layer) {
  ExpertMatrices experts;
  experts.gate = layer.gate;
  experts.weight_on_input = layer.weight_on_input;
  for (int64_t slot = 0; slot < layer.slots; ++slot) {
    const auto seed = static_cast<uint32_t>(100 * slot);
    experts.gate_up.push_back(filled(
        backend, {.out = 2 * layer.ffn, .in = layer.hidden, .kind = MatrixKind::kGateUp, .dtype = layer.dtype}, seed));
    experts.down.push_back(filled(backend,
                                  {.out = layer.hidden,
                                   .in = layer.ffn,
                                   .kind = MatrixKind::kRow,
                                   .dtype = layer.dtype,
                                   .k_slice = {0, layer.ffn},
                                   .k_total = layer.ffn},
                                  seed + 1));
    if (!layer.bias) continue;
    const Values bias = random_values(2 * layer.ffn, seed + 2);
    experts.gate_up_bias.push_back(backend.from_host(std::span<const float>(bias), {2 * layer.ffn}));
  }
  return experts;
}

struct Routes {
  int64_t rows = 0, top_k = 3;
  Values x, weights;
  std::vector<int32_t> slots;
  // Rows [begin, end) of this.
  Routes slice(int64_t begin, int64_t end, int64_t hidden) const {
    return {end - begin, top_k, Values(x.begin() + begin * hidden, x.begin() + end * hidden),
            Values(weights.begin() + begin * top_k, weights.begin() + end * top_k),
            std::vector<int32_t>(slots.begin() + begin * top_k, slots.begin() + end * top_k)};
  }
};

// Skewed: slot 0 gets most picks, some picks are elsewhere (-1), some rows have none, the last slot is never hit.
Routes random_routes(const Layer& layer, int64_t rows, uint32_t seed) {
  Routes routes{.rows = rows, .x = random_values(rows * layer.hidden, seed), .weights = {}, .slots = {}};
  std::mt19937 rng(seed);
  for (int64_t i = 0; i < rows * routes.top_k; ++i) {
    const int64_t draw = static_cast<int64_t>(rng() % 10);
    const int64_t slot = draw < 4 ? 0 : draw < 7 ? -1 : 1 + static_cast<int64_t>(rng()) % (layer.slots - 2);
    routes.slots.push_back(static_cast<int32_t>(i / routes.top_k % 5 == 4 ? -1 : slot));
    routes.weights.push_back(static_cast<float>(rng() % 1000) / 1000.0f);
  }
  return routes;
}

ExpertBatch batch_of(Backend& backend, const Routes& routes) {
  const int64_t hidden = static_cast<int64_t>(routes.x.size()) / routes.rows;
  return {.rows = backend.from_host(std::span<const float>(routes.x), {routes.rows, hidden}),
          .slots = backend.from_host(std::span<const int32_t>(routes.slots), {routes.rows, routes.top_k}),
          .weights = backend.from_host(std::span<const float>(routes.weights), {routes.rows, routes.top_k})};
}

Values sum_of(Backend& backend, const Layer& layer, const Routes& routes) {
  return backend.to_host(backend.experts_sum(batch_of(backend, routes), experts_of(backend, layer)));
}
Values rows_of(Backend& backend, const Layer& layer, const Routes& routes) {
  return backend.to_host(backend.experts_rows(batch_of(backend, routes), experts_of(backend, layer)));
}

bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

void expect_close(const Values& actual, const Values& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], tolerance * (1 + std::abs(expected[i]))) << "element " << i;
  }
}

std::vector<Layer> layers() {
  const GateSpec clamped{.kind = GateKind::kClampedSwish, .limit = 1.0f};
  return {{},
          {.bias = true, .gate = clamped},
          {.weight_on_input = true},
          {.dtype = DType::kF32},
          {.hidden = 70, .ffn = 90, .dtype = DType::kF32, .bias = true, .weight_on_input = true}};
}

class ExpertsTest : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Isa, ExpertsTest, testing::ValuesIn(available_isas()),
                         [](const auto& isa) { return isa.param; });

// Of two products one after the other: activations of bf16 products are as they are, or rounded to bf16, or to the sum of two.
double tolerance_of(const std::string& isa, DType dtype) {
  if (dtype == DType::kF32) return 1e-5;
  const int bits = activation_bits(isa);
  return bits == 8 ? 2e-2 : bits == 17 ? 4e-5 : 1e-5;
}

TEST_P(ExpertsTest, AgreeWithTheReference) {
  const auto reference = backend_of("reference");
  const auto backend = backend_of(GetParam(), 2);
  for (const Layer& layer : layers()) {
    for (const int64_t rows : {1, 8, 90}) {
      const Routes routes = random_routes(layer, rows, 3);
      const double tolerance = tolerance_of(GetParam(), layer.dtype);
      expect_close(sum_of(*backend, layer, routes), sum_of(*reference, layer, routes), tolerance);
      expect_close(rows_of(*backend, layer, routes), rows_of(*reference, layer, routes), tolerance);
    }
  }
}

TEST_P(ExpertsTest, ARowHasTheSameBitsWhateverItsBatchAndThreads) {
  for (const Layer& layer : layers()) {
    const Routes all = random_routes(layer, 60, 4);
    const auto one = backend_of(GetParam(), 1);
    const Values together = sum_of(*one, layer, all);
    EXPECT_TRUE(same_bits(sum_of(*backend_of(GetParam(), 2), layer, all), together));
    EXPECT_TRUE(same_bits(sum_of(*backend_of(GetParam(), 3), layer, all), together));
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 1}, {17, 18}, {4, 5}, {30, 37}, {20, 60}}) {
      const Values alone = sum_of(*one, layer, all.slice(begin, end, layer.hidden));
      const Values expected(together.begin() + begin * layer.hidden, together.begin() + end * layer.hidden);
      EXPECT_TRUE(same_bits(alone, expected)) << "rows " << begin << " to " << end;
    }
  }
}

// The deterministic path: rows as they come back from other ranks, weighed at the token's home, give the bits of one rank.
TEST_P(ExpertsTest, WeighedPicksHaveTheBitsOfTheSum) {
  const auto backend = backend_of(GetParam(), 2);
  const Layer layer;
  const Routes routes = random_routes(layer, 30, 5);
  const Values rows = rows_of(*backend, layer, routes);
  Values picks;
  size_t next = 0;
  for (const int32_t slot : routes.slots) {
    const auto begin = rows.begin() + static_cast<int64_t>(next) * layer.hidden;
    if (slot >= 0) picks.insert(picks.end(), begin, begin + layer.hidden);
    if (slot >= 0) ++next;
    if (slot < 0) picks.resize(picks.size() + static_cast<size_t>(layer.hidden), 0.0f);
  }
  const Tensor weighed =
      backend->weigh_picks(backend->from_host(std::span<const float>(picks), {routes.rows, routes.top_k, layer.hidden}),
                           backend->from_host(std::span<const float>(routes.weights), {routes.rows, routes.top_k}));
  EXPECT_TRUE(same_bits(backend->to_host(weighed), sum_of(*backend, layer, routes)));
}

TEST_P(ExpertsTest, NoPickAtAllIsZero) {
  const auto backend = backend_of(GetParam(), 2);
  const Layer layer;
  Routes routes = random_routes(layer, 4, 6);
  std::fill(routes.slots.begin(), routes.slots.end(), -1);
  EXPECT_EQ(sum_of(*backend, layer, routes), Values(static_cast<size_t>(4 * layer.hidden), 0.0f));
  EXPECT_TRUE(rows_of(*backend, layer, routes).empty());
}

TEST_P(ExpertsTest, AddWeightedRows) {
  const auto backend = backend_of(GetParam(), 2);
  const auto reference = backend_of("reference");
  const Values table = random_values(5 * 33, 1), x = random_values(4 * 33, 2), weights = random_values(8, 3);
  const std::vector<int32_t> ids = {0, 4, 1, 1, 2, 3, 4, 0};
  const auto run = [&](Backend& b) {
    const Tensor sums = b.from_host(std::span<const float>(x), {4, 33});
    b.add_weighted_rows(sums, b.from_host(std::span<const int32_t>(ids), {4, 2}),
                        b.from_host(std::span<const float>(weights), {4, 2}),
                        b.from_host(std::span<const float>(table), {5, 33}));
    return b.to_host(sums);
  };
  expect_close(run(*backend), run(*reference), 1e-6);
}

}  // namespace
}  // namespace shoal
