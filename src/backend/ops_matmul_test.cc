// SPDX-License-Identifier: Apache-2.0
// Conformance of memory, matrices, dense products and routed experts.
#include <algorithm>

#include "backend/ops_test.h"

namespace shoal {
namespace {

class ProductOps : public OpsTest {
 protected:
  static Matrix matrix(Backend& backend, const MatrixSpec& spec, const std::vector<float>& values) {
    const Matrix result = backend.new_matrix(spec);
    EXPECT_EQ(result.bytes(), backend.matrix_bytes(spec));
    const int64_t half = spec.out / 2;  // two calls: rows may come in any pieces
    backend.fill_rows(result, half, spec.out - half, std::span(values).subspan(static_cast<size_t>(half * spec.in)));
    backend.fill_rows(result, 0, half, std::span(values).first(static_cast<size_t>(half * spec.in)));
    return result;
  }

  static MatrixSpec spec_of(int64_t out, int64_t in, MatrixKind kind, DType dtype) {
    return {.out = out, .in = in, .kind = kind, .dtype = dtype, .k_slice = {0, in}, .k_total = in};
  }

  template <typename Op>
  void compare(const Op& op, double tolerance, const std::string& what) {
    expect_close(op(*backend_), op(reference_), tolerance, what);
  }

  // Activations that every path takes as they are: bf16 values for bf16 matrices, which some paths multiply in pairs.
  std::vector<float> inputs(int64_t count, DType dtype, float low = -1.0f, float high = 1.0f) {
    std::vector<float> values = random(count, low, high);
    if (dtype == DType::kBF16)
      for (float& value : values) value = to_float(to_bfloat16(value));
    return values;
  }
  // What is left is the order of an f32 sum.
  static constexpr double kTolerance = 4e-6;
  // Of two products one after the other, where activations between them are rounded: to bf16, or to the sum of two.
  double chained_tolerance(DType dtype) const {
    if (dtype == DType::kF32) return kTolerance;
    const int bits = activation_bits(GetParam().isa);
    return bits == 8 ? 2e-2 : bits == 17 ? 2e-5 : kTolerance;
  }
};

const int64_t kRowCounts[] = {0, 1, 2, 3, 7, 17, 65};

TEST_P(ProductOps, MemoryRoundTrip) {
  const std::vector<float> values = random(5 * 9);
  const Tensor wide = backend_->from_host(std::span<const float>(values), {5, 9});
  expect_same_bits(backend_->to_host(wide), values, "to_host");
  std::vector<float> columns;
  for (size_t row = 0; row < 5; ++row)
    for (size_t i = 2; i < 6; ++i) columns.push_back(values[row * 9 + i]);
  expect_same_bits(backend_->to_host(wide.slice_columns(2, 6)), columns, "view");
  const Tensor narrow = backend_->zeros(DType::kBF16, {7, 9});
  backend_->write_rows(narrow, 1, 5, values);
  std::vector<float> expected(7 * 9, 0.0f);
  for (size_t i = 0; i < values.size(); ++i) expected[9 + i] = to_float(to_bfloat16(values[i]));
  expect_same_bits(backend_->to_host(narrow), expected, "write_rows");
  const std::vector<int32_t> ids = {3, -1, 7};
  EXPECT_EQ(backend_->to_host_ids(backend_->from_host(std::span<const int32_t>(ids), {3})), ids);
}

TEST_P(ProductOps, Matmul) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const int64_t out : {1, 15, 64, 130})
      for (const int64_t in : {1, 31, 64, 257}) {
        const auto weights = random(out * in), bias = random(out);
        for (const int64_t rows : kRowCounts) {
          const auto x = inputs(rows * in, dtype);
          const auto run = [&](Backend& b) {
            const Matrix w = matrix(b, spec_of(out, in, MatrixKind::kColumn, dtype), weights);
            return b.to_host(b.matmul(strided(b, x, rows, in, rows % 3), w, rows % 2 ? vector(b, bias) : Tensor()));
          };
          compare(run, kTolerance, "matmul");
        }
      }
}

TEST_P(ProductOps, MatmulPartialOfSlices) {
  const int64_t k_total = 203, out = 37, rows = 6;
  const std::vector<std::pair<int64_t, int64_t>> slices = {{0, k_total}, {0, 50}, {50, 101}, {101, 203}, {13, 14}};
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const auto& [begin, end] : slices) {
      const auto weights = random(out * (end - begin)), x = inputs(rows * (end - begin), dtype);
      MatrixSpec spec = spec_of(out, end - begin, MatrixKind::kRow, dtype);
      spec.k_slice = {begin, end};
      spec.k_total = k_total;
      const auto run = [&](Backend& b) {
        return b.to_host(b.matmul_partial(strided(b, x, rows, spec.in, 1), matrix(b, spec, weights)));
      };
      compare(run, kTolerance, "matmul_partial");
    }
}

TEST_P(ProductOps, GateUpOfBothKinds) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const GateKind kind : {GateKind::kSilu, GateKind::kClampedSwish})
      for (const int64_t ffn : {1, 24, 65})
        for (const int64_t rows : kRowCounts) {
          const int64_t in = 40;
          const auto weights = random(2 * ffn * in), x = inputs(rows * in, dtype, -3.0f, 3.0f);
          const auto run = [&](Backend& b) {
            const Matrix w = matrix(b, spec_of(2 * ffn, in, MatrixKind::kGateUp, dtype), weights);
            return b.to_host(b.gate_up(strided(b, x, rows, in, 2), w, {.kind = kind, .limit = 1.5f}));
          };
          compare(run, kTolerance, "gate_up");
        }
}

// gpt-oss: with in = 1 the projections are the weights times x, so each side of each clamp is reached by hand.
TEST_P(ProductOps, ClampedSwishReachesItsLimits) {
  const std::vector<float> gate = {-20, -7, 6.5, 7, 7.5, 100, 0, 3}, up = {9, -9, 7, -7, 6.5, -100, 100, -1};
  std::vector<float> weights = gate;
  weights.insert(weights.end(), up.begin(), up.end());
  const Matrix w = matrix(*backend_, spec_of(16, 1, MatrixKind::kGateUp, DType::kF32), weights);
  const std::vector<float> actual = backend_->to_host(
      backend_->gate_up(vector(*backend_, {1.0f}).view({1, 1}), w, {.kind = GateKind::kClampedSwish}));
  for (size_t i = 0; i < gate.size(); ++i) {
    const double g = std::min(double{gate[i]}, 7.0), u = std::clamp(double{up[i]}, -7.0, 7.0);
    EXPECT_NEAR(actual[i], g / (1.0 + std::exp(-1.702 * g)) * (u + 1.0), 1e-5) << i;
  }
}

TEST_P(ProductOps, MatmulHeads) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const int64_t rows : kRowCounts) {
      const int64_t heads = 3, in = 33, out = 20;
      const auto weights = random(heads * out * in), x = inputs(rows * heads * in, dtype);
      const auto run = [&](Backend& b) {
        std::vector<Matrix> w;
        for (int64_t head = 0; head < heads; ++head) {
          const auto first = weights.begin() + head * out * in;
          w.push_back(matrix(b, spec_of(out, in, MatrixKind::kColumn, dtype), {first, first + out * in}));
        }
        return b.to_host(b.matmul_heads(strided(b, x, rows, heads * in, 4).view({rows, heads, in}), w));
      };
      compare(run, kTolerance, "matmul_heads");
    }
}

struct ExpertData {
  int64_t experts, hidden, ffn, rows, top_k;
  std::vector<float> gate_up, down, bias, x, weights;
  std::vector<int32_t> slots;
};

class ExpertOps : public ProductOps {
 protected:
  ExpertData data(int64_t rows) {
    ExpertData d = {.experts = 5,
                    .hidden = 48,
                    .ffn = 27,
                    .rows = rows,
                    .top_k = 3,
                    .gate_up = {},
                    .down = {},
                    .bias = {},
                    .x = {},
                    .weights = {},
                    .slots = {}};
    d.gate_up = random(d.experts * 2 * d.ffn * d.hidden);
    d.down = random(d.experts * d.hidden * d.ffn);
    d.bias = random(d.experts * 2 * d.ffn);
    d.x = random(rows * d.hidden);
    d.weights = random(rows * d.top_k, 0.0f, 1.0f);
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<int32_t> slots = {0, 1, 2, 3, 4};
      std::shuffle(slots.begin(), slots.end(), rng_);
      for (int64_t k = 0; k < d.top_k; ++k)  // every fourth row has no local expert
        d.slots.push_back(row % 4 == 3 || random_int(0, 3) == 0 ? -1 : slots[static_cast<size_t>(k)]);
    }
    return d;
  }

  static ExpertMatrices experts(Backend& b, const ExpertData& d, DType dtype, bool with_bias) {
    ExpertMatrices result;
    for (int64_t e = 0; e < d.experts; ++e) {
      const auto part = [e](const std::vector<float>& all, int64_t size) {
        return std::vector<float>(all.begin() + e * size, all.begin() + (e + 1) * size);
      };
      result.gate_up.push_back(
          matrix(b, spec_of(2 * d.ffn, d.hidden, MatrixKind::kGateUp, dtype), part(d.gate_up, 2 * d.ffn * d.hidden)));
      result.down.push_back(
          matrix(b, spec_of(d.hidden, d.ffn, MatrixKind::kRow, dtype), part(d.down, d.hidden * d.ffn)));
      if (with_bias) result.gate_up_bias.push_back(vector(b, part(d.bias, 2 * d.ffn)));
    }
    return result;
  }

  static ExpertBatch batch(Backend& b, const ExpertData& d) {
    return {.rows = strided(b, d.x, d.rows, d.hidden, d.rows % 2),
            .slots = b.from_host(std::span<const int32_t>(d.slots), {d.rows, d.top_k}),
            .weights = b.from_host(std::span<const float>(d.weights), {d.rows, d.top_k})};
  }
};

TEST_P(ExpertOps, SumAndRows) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const bool plain : {true, false})
      for (const int64_t rows : {0, 1, 4, 50}) {
        const ExpertData d = data(rows);
        const double tolerance = chained_tolerance(dtype);
        const auto with = [&](Backend& b) {
          ExpertMatrices e = experts(b, d, dtype, !plain);
          e.gate = {.kind = plain ? GateKind::kSilu : GateKind::kClampedSwish, .limit = 1.0f};
          e.weight_on_input = plain && rows == 50;
          return e;
        };
        compare([&](Backend& b) { return b.to_host(b.experts_sum(batch(b, d), with(b))); }, tolerance, "experts_sum");
        compare([&](Backend& b) { return b.to_host(b.experts_rows(batch(b, d), with(b))); }, tolerance, "experts_rows");
      }
}

TEST_P(ExpertOps, WeighPicksAndAddWeightedRows) {
  for (const int64_t rows : {0, 1, 9}) {
    const int64_t top_k = 4, hidden = 35, experts = 6;
    const auto picks = random(rows * top_k * hidden), weights = random(rows * top_k), table = random(experts * hidden),
               x = random(rows * hidden);
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < rows * top_k; ++i) ids.push_back(static_cast<int32_t>(random_int(0, experts - 1)));
    compare(
        [&](Backend& b) {
          const Tensor w = b.from_host(std::span<const float>(weights), {rows, top_k});
          return b.to_host(b.weigh_picks(b.from_host(std::span<const float>(picks), {rows, top_k, hidden}), w));
        },
        1e-6, "weigh_picks");
    compare(
        [&](Backend& b) {
          const Tensor target = strided(b, x, rows, hidden, 0);
          b.add_weighted_rows(target, b.from_host(std::span<const int32_t>(ids), {rows, top_k}),
                              b.from_host(std::span<const float>(weights), {rows, top_k}),
                              b.from_host(std::span<const float>(table), {experts, hidden}));
          return b.to_host(target);
        },
        1e-6, "add_weighted_rows");
  }
}

SHOAL_INSTANTIATE_OPS(ProductOps);
SHOAL_INSTANTIATE_OPS(ExpertOps);

}  // namespace
}  // namespace shoal
