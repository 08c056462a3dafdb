// SPDX-License-Identifier: Apache-2.0
// Products against sums in double precision, and the contract's promises about bits (docs/architecture.md section 4, rule 1).
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>

#include "backend/factory.h"
#include "base/error.h"

namespace shoal {
namespace {

using Values = std::vector<float>;

Values random_values(int64_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  Values values(static_cast<size_t>(count));
  for (float& value : values) value = normal(rng);
  return values;
}

// Activations that every path takes as they are: bf16 values for bf16 matrices, which some paths multiply in pairs.
Values random_inputs(int64_t count, uint32_t seed, DType dtype) {
  Values values = random_values(count, seed);
  if (dtype == DType::kBF16)
    for (float& value : values) value = to_float(to_bfloat16(value));
  return values;
}

float rounded(float value, DType dtype) { return dtype == DType::kBF16 ? to_float(to_bfloat16(value)) : value; }

std::unique_ptr<Backend> backend_of(const std::string& isa, int threads = 1) {
  return make_backend({.device = "cpu", .isa = isa, .threads = threads, .cores = {}});
}

Matrix matrix_of(Backend& backend, const MatrixSpec& spec, const Values& values) {
  const Matrix w = backend.new_matrix(spec);
  EXPECT_EQ(w.bytes(), backend.matrix_bytes(spec));
  // In uneven pieces: rows of one panel arrive by different calls.
  for (int64_t row = 0; row < spec.out;) {
    const int64_t count = std::min<int64_t>(1 + row % 37, spec.out - row);
    backend.fill_rows(
        w, row, count,
        std::span(values).subspan(static_cast<size_t>(row * spec.in), static_cast<size_t>(count * spec.in)));
    row += count;
  }
  return w;
}

struct Case {
  int64_t rows, out, in;
  DType dtype;
};
const std::vector<Case> kCases = {
    {1, 64, 64, DType::kBF16},   {1, 200, 333, DType::kBF16}, {3, 17, 5, DType::kBF16},
    {7, 130, 512, DType::kBF16}, {20, 48, 700, DType::kBF16}, {45, 100, 129, DType::kBF16},
    {250, 70, 65, DType::kBF16}, {1, 64, 64, DType::kF32},    {5, 200, 333, DType::kF32},
    {33, 1, 1, DType::kF32},     {70, 65, 400, DType::kF32},  {200, 31, 257, DType::kF32}};

class GemmTest : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Isa, GemmTest, testing::ValuesIn(available_isas()), [](const auto& isa) { return isa.param; });

// Bound of the error of a sum of `terms` products, their magnitudes adding up to `magnitude`.
double bound(double magnitude, int64_t terms) { return magnitude * 6e-8 * (static_cast<double>(terms) + 4) + 1e-30; }

void expect_product(const Values& actual, const Values& x, const Values& w, const Values& bias, const Case& c) {
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t o = 0; o < c.out; ++o) {
      double sum = bias.empty() ? 0.0 : double{bias[static_cast<size_t>(o)]};
      double magnitude = std::abs(sum);
      for (int64_t k = 0; k < c.in; ++k) {
        const double term =
            double{x[static_cast<size_t>(r * c.in + k)]} * rounded(w[static_cast<size_t>(o * c.in + k)], c.dtype);
        sum += term;
        magnitude += std::abs(term);
      }
      ASSERT_NEAR(actual[static_cast<size_t>(r * c.out + o)], sum, bound(magnitude, c.in))
          << c.rows << " x " << c.out << " x " << c.in << " row " << r << " column " << o;
    }
  }
}

TEST_P(GemmTest, MatmulEqualsTheSumInDouble) {
  for (const Case& c : kCases) {
    for (const MatrixKind kind : {MatrixKind::kColumn, MatrixKind::kRow}) {
      const auto backend = backend_of(GetParam(), 2);
      const Values w = random_values(c.out * c.in, 1);
      const Values x = random_inputs(c.rows * c.in, 2, c.dtype);
      const Values bias = random_values(c.out, 3);
      const MatrixSpec spec{
          .out = c.out, .in = c.in, .kind = kind, .dtype = c.dtype, .k_slice = {0, c.in}, .k_total = c.in};
      const Matrix matrix = matrix_of(*backend, spec, w);
      const Tensor input = backend->from_host(std::span<const float>(x), {c.rows, c.in});
      const Tensor biases = backend->from_host(std::span<const float>(bias), {c.out});
      expect_product(backend->to_host(backend->matmul(input, matrix, biases)), x, w, bias, c);
      if (kind == MatrixKind::kRow) {
        expect_product(backend->to_host(backend->matmul_partial(input, matrix)), x, w, {}, c);
      }
    }
  }
}

// Rows as a file has them: in the matrix's own type, with gaps between them, at an odd address.
TEST_P(GemmTest, RowsFromAFileFillTheSameMatrix) {
  for (const Case& c : kCases) {
    for (const MatrixKind kind : {MatrixKind::kColumn, MatrixKind::kGateUp, MatrixKind::kRow}) {
      const auto backend = backend_of(GetParam());
      const int64_t out = c.out / 2 * 2;
      if (out == 0) continue;
      const Values w = random_inputs(out * c.in, 1, c.dtype);
      const MatrixSpec spec{
          .out = out, .in = c.in, .kind = kind, .dtype = c.dtype, .k_slice = {0, c.in}, .k_total = c.in};
      const auto element = static_cast<int64_t>(dtype_bytes(c.dtype));
      const int64_t stride = c.in * element + 6;
      std::vector<std::byte> file(static_cast<size_t>(1 + out * stride), std::byte{0xff});
      for (int64_t i = 0; i < out * c.in; ++i) {
        std::byte* place = file.data() + 1 + i / c.in * stride + i % c.in * element;
        const float value = w[static_cast<size_t>(i)];
        const uint16_t narrow = to_bfloat16(value).bits;
        std::memcpy(place, c.dtype == DType::kBF16 ? static_cast<const void*>(&narrow) : &value, dtype_bytes(c.dtype));
      }
      const Matrix expected = matrix_of(*backend, spec, w), matrix = backend->new_matrix(spec);
      backend->fill_rows_from(matrix, 0, out, {file.data() + 1, stride, c.dtype});
      const Values x = random_inputs(c.rows * c.in, 2, c.dtype);
      const Tensor input = backend->from_host(std::span<const float>(x), {c.rows, c.in});
      const auto product = [&](const Matrix& m) {
        const bool gated = kind == MatrixKind::kGateUp;
        return backend->to_host(gated ? backend->gate_up(input, m, {}) : backend->matmul(input, m, Tensor()));
      };
      EXPECT_EQ(product(expected), product(matrix)) << out << " x " << c.in;
    }
  }
}

TEST_P(GemmTest, InputsMayBeColumnViews) {
  const auto backend = backend_of(GetParam());
  const Case c{9, 40, 50, DType::kF32};
  const Values w = random_values(c.out * c.in, 1);
  const Values wide = random_values(c.rows * 80, 2);
  Values x;
  for (int64_t r = 0; r < c.rows; ++r) x.insert(x.end(), wide.begin() + r * 80 + 20, wide.begin() + r * 80 + 70);
  const Matrix matrix = matrix_of(*backend, {.out = c.out, .in = c.in, .dtype = c.dtype}, w);
  const Tensor view = backend->from_host(std::span<const float>(wide), {c.rows, 80}).slice_columns(20, 70);
  expect_product(backend->to_host(backend->matmul(view, matrix, Tensor())), x, w, {}, c);
}

TEST_P(GemmTest, EmptyRowsAndEmptySlices) {
  const auto backend = backend_of(GetParam(), 2);
  const Matrix w = matrix_of(*backend, {.out = 8, .in = 8}, random_values(64, 1));
  EXPECT_TRUE(backend->to_host(backend->matmul(backend->empty(DType::kF32, {0, 8}), w, Tensor())).empty());
  const MatrixSpec nothing{.out = 8, .in = 0, .kind = MatrixKind::kRow, .k_slice = {3, 3}, .k_total = 6};
  const Tensor zero = backend->matmul_partial(backend->empty(DType::kF32, {2, 0}), backend->new_matrix(nothing));
  EXPECT_EQ(backend->to_host(zero), Values(16, 0.0f));
}

double gated(double gate, double up, const GateSpec& spec) {
  if (spec.kind == GateKind::kSilu) return gate / (1 + std::exp(-gate)) * up;
  gate = std::min<double>(gate, spec.limit);
  up = std::clamp<double>(up, -spec.limit, spec.limit);
  return gate / (1 + std::exp(-1.702 * gate)) * (up + 1);
}

TEST_P(GemmTest, GateUpIsTheActivationOfTwoProducts) {
  for (const GateKind kind : {GateKind::kSilu, GateKind::kClampedSwish}) {
    for (const Case& c : kCases) {
      const auto backend = backend_of(GetParam(), 2);
      const GateSpec gate{.kind = kind, .limit = 2.0f};
      const Values w = random_values(2 * c.out * c.in, 1);
      Values x = random_values(c.rows * c.in, 2);
      for (float& value : x) value /= std::sqrt(static_cast<float>(c.in));
      const Tensor input = backend->from_host(std::span<const float>(x), {c.rows, c.in});
      const Matrix joined =
          matrix_of(*backend, {.out = 2 * c.out, .in = c.in, .kind = MatrixKind::kGateUp, .dtype = c.dtype}, w);
      const Matrix plain = matrix_of(*backend, {.out = 2 * c.out, .in = c.in, .dtype = c.dtype}, w);
      const Values actual = backend->to_host(backend->gate_up(input, joined, gate));
      const Values sums = backend->to_host(backend->matmul(input, plain, Tensor()));
      for (int64_t r = 0; r < c.rows; ++r) {
        for (int64_t o = 0; o < c.out; ++o) {
          const double expected = gated(sums[static_cast<size_t>(r * 2 * c.out + o)],
                                        sums[static_cast<size_t>(r * 2 * c.out + c.out + o)], gate);
          ASSERT_NEAR(actual[static_cast<size_t>(r * c.out + o)], expected, 2e-6 * (1 + std::abs(expected)));
        }
      }
    }
  }
}

TEST_P(GemmTest, OneMatrixPerHead) {
  const auto backend = backend_of(GetParam(), 2);
  const int64_t tokens = 5, heads = 3, in = 40, out = 24;
  const Values x = random_inputs(tokens * heads * in, 1, DType::kBF16);
  std::vector<Matrix> matrices;
  std::vector<Values> weights;
  for (uint32_t head = 0; head < 3; ++head) {
    weights.push_back(random_values(out * in, 10 + head));
    matrices.push_back(matrix_of(*backend, {.out = out, .in = in}, weights.back()));
  }
  const Tensor input = backend->from_host(std::span<const float>(x), {tokens, heads, in});
  const Values actual = backend->to_host(backend->matmul_heads(input, matrices));
  for (int64_t head = 0; head < heads; ++head) {
    Values head_x, head_out;
    for (int64_t t = 0; t < tokens; ++t) {
      const auto row = x.begin() + (t * heads + head) * in;
      head_x.insert(head_x.end(), row, row + in);
      const auto result = actual.begin() + (t * heads + head) * out;
      head_out.insert(head_out.end(), result, result + out);
    }
    expect_product(head_out, head_x, weights[static_cast<size_t>(head)], {}, {tokens, out, in, DType::kBF16});
  }
}

// --- bits

bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// What products promise, tried on each kind of matrix.
struct Product {
  MatrixSpec spec;
  Values w;
  Values run(Backend& backend, const Values& x, int64_t rows) const {
    const Matrix matrix = matrix_of(backend, spec, w);
    const Tensor input = backend.from_host(std::span<const float>(x), {rows, spec.in});
    const Tensor out =
        spec.kind == MatrixKind::kGateUp ? backend.gate_up(input, matrix, {}) : backend.matmul(input, matrix, Tensor());
    return backend.to_host(out);
  }
};

std::vector<Product> products_with_bits() {
  std::vector<Product> products;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const MatrixKind kind : {MatrixKind::kColumn, MatrixKind::kGateUp, MatrixKind::kRow}) {
      for (const auto& [out, in] : {std::pair<int64_t, int64_t>{150, 700}, {66, 101}}) {
        products.push_back({{.out = out, .in = in, .kind = kind, .dtype = dtype, .k_slice = {0, in}, .k_total = in},
                            random_values(out * in, 5)});
      }
    }
  }
  return products;
}

TEST_P(GemmTest, ARowHasTheSameBitsAloneAndInAnyBatch) {
  const int64_t most = 230;
  for (const Product& product : products_with_bits()) {
    const auto backend = backend_of(GetParam());
    const Values x = random_values(most * product.spec.in, 6);
    const Values all = product.run(*backend, x, most);
    const int64_t out = static_cast<int64_t>(all.size()) / most;
    for (const int64_t rows : {1, 2, 3, 5, 6, 7, 13, 19, 64, 193}) {
      const int64_t first = most - rows;
      const Values some = product.run(*backend, Values(x.begin() + first * product.spec.in, x.end()), rows);
      EXPECT_TRUE(same_bits(some, Values(all.begin() + first * out, all.end())))
          << rows << " rows, kind " << static_cast<int>(product.spec.kind) << ", in " << product.spec.in;
    }
  }
}

// Small numbers too, whose products some instructions take as 0.
TEST_P(GemmTest, ARowOfSmallNumbersHasTheSameBitsAloneAndInABatch) {
  const auto backend = backend_of(GetParam());
  for (const float scale : {1e-18f, 1e-20f}) {
    Values w = random_values(70 * 240, 21), x = random_values(5 * 240, 22);
    for (float& value : w) value *= scale;
    for (float& value : x) value *= scale;
    const Product product{{.out = 70, .in = 240, .kind = MatrixKind::kRow, .k_slice = {0, 240}, .k_total = 240}, w};
    const Values together = product.run(*backend, x, 5);
    for (int64_t row = 0; row < 5; ++row) {
      const Values alone = product.run(*backend, Values(x.begin() + row * 240, x.begin() + (row + 1) * 240), 1);
      EXPECT_TRUE(same_bits(alone, Values(together.begin() + row * 70, together.begin() + (row + 1) * 70))) << scale;
    }
  }
}

TEST_P(GemmTest, ThreadsChangeNoBit) {
  for (const Product& product : products_with_bits()) {
    for (const int64_t rows : {1, 9, 200}) {
      const Values x = random_values(rows * product.spec.in, 6);
      const Values one = product.run(*backend_of(GetParam(), 1), x, rows);
      for (const int threads : {2, 3}) {
        EXPECT_TRUE(same_bits(product.run(*backend_of(GetParam(), threads), x, rows), one)) << threads << " threads";
      }
    }
  }
}

// Terms of 2, 4 or 8 ranks added as the all-reduce adds them.
Values tree_sum(const std::vector<Values>& terms, size_t first, size_t last) {
  if (last - first == 1) return terms[first];
  const size_t middle = first + std::bit_ceil(last - first) / 2;
  Values sum = tree_sum(terms, first, middle);
  const Values right = tree_sum(terms, middle, last);
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += right[i];
  return sum;
}

Values columns_of(const Values& rows, int64_t width, Range range) {
  Values result;
  for (int64_t row = 0; row < static_cast<int64_t>(rows.size()) / width; ++row) {
    result.insert(result.end(), rows.begin() + row * width + range.begin, rows.begin() + row * width + range.end);
  }
  return result;
}

TEST_P(GemmTest, SlicesOfKOverRanksAddToTheBitsOfOneRank) {
  const auto backend = backend_of(GetParam(), 2);
  const int64_t out = 70;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t k : {4, 5, 48, 100, 176, 2880}) {
      for (const int64_t rows : {1, 21}) {
        const Values w = random_values(out * k, 7);
        const Values x = random_values(rows * k, 8);
        const auto run = [&](Range slice) {
          const Product product{{.out = out,
                                 .in = slice.size(),
                                 .kind = MatrixKind::kRow,
                                 .dtype = dtype,
                                 .k_slice = slice,
                                 .k_total = k},
                                columns_of(w, k, slice)};
          return product.run(*backend, columns_of(x, k, slice), rows);
        };
        const Values whole = run({0, k});
        for (const int64_t ranks : {2, 4, 8}) {
          std::vector<Values> terms;
          for (int64_t rank = 0; rank < ranks; ++rank) terms.push_back(run({rank * k / ranks, (rank + 1) * k / ranks}));
          EXPECT_TRUE(same_bits(tree_sum(terms, 0, terms.size()), whole)) << "K " << k << " over " << ranks << " ranks";
        }
      }
    }
  }
}

TEST_P(GemmTest, SlicesThatCutEighthsAddToTheWholeWithinRounding) {
  const auto backend = backend_of(GetParam());
  const int64_t out = 20, k = 100;
  const Values w = random_values(out * k, 7);
  const Values x = random_values(k, 8);
  Values sum(static_cast<size_t>(out), 0.0f);
  for (int64_t rank = 0; rank < 3; ++rank) {
    const Range slice{rank * k / 3, (rank + 1) * k / 3};
    const Product product{{.out = out,
                           .in = slice.size(),
                           .kind = MatrixKind::kRow,
                           .dtype = DType::kF32,
                           .k_slice = slice,
                           .k_total = k},
                          columns_of(w, k, slice)};
    const Values term = product.run(*backend, columns_of(x, k, slice), 1);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += term[i];
  }
  expect_product(sum, x, w, {}, {1, out, k, DType::kF32});
}

// Fused multiply-adds in ascending k: every path but those that multiply bf16 pairs gives the same bits (there for f32 only).
TEST(Gemm, InstructionSetsAgreeInEveryBit) {
  for (const Product& product : products_with_bits()) {
    for (const int64_t rows : {1, 40}) {
      const Values x = random_values(rows * product.spec.in, 9);
      const Values plain = product.run(*backend_of("plain"), x, rows);
      for (const std::string& isa : available_isas()) {
        if (product.spec.dtype == DType::kBF16 && activation_bits(isa) < 24) continue;
        EXPECT_TRUE(same_bits(product.run(*backend_of(isa), x, rows), plain)) << isa;
      }
    }
  }
}

// The chain itself, and that f32 sums are fused (a product rounded first would differ).
TEST(Gemm, AColumnIsOneChainOfFusedMultiplyAdds) {
  const int64_t k = 300;
  const Values w = random_values(k, 11);
  const Values x = random_values(k, 12);
  float sum = 0.0f;
  for (size_t i = 0; i < static_cast<size_t>(k); ++i) sum = std::fma(x[i], w[i], sum);
  for (const std::string& isa : available_isas()) {
    const Product product{{.out = 1, .in = k, .kind = MatrixKind::kColumn, .dtype = DType::kF32}, w};
    EXPECT_EQ(product.run(*backend_of(isa), x, 1)[0], sum) << isa;
  }
}

TEST(Gemm, SpecialValuesStayWhatTheyAre) {
  const float inf = INFINITY;
  for (const std::string& isa : available_isas()) {
    const Product product{{.out = 2, .in = 2, .dtype = DType::kBF16}, {1.0f, 0.5f, inf, 1.0f}};
    const Values sums = product.run(*backend_of(isa), {3.0f, NAN, 2.0f, 1.0f}, 2);
    EXPECT_TRUE(std::isnan(sums[0])) << isa;
    EXPECT_EQ(sums[2], 2.5f) << isa;
    // Where an activation is the sum of two, the second is 0 here, and 0 times infinity is no number.
    if (activation_bits(isa) == 17) {
      EXPECT_FALSE(std::isfinite(sums[3]));
    } else {
      EXPECT_EQ(sums[3], inf) << isa;
    }
  }
}

TEST(Factory, RefusesWhatItCannotMake) {
  EXPECT_THROW(make_backend({.device = "tpu", .isa = "", .threads = 1, .cores = {}}), Error);
  EXPECT_THROW(make_backend({.device = "cpu", .isa = "avx3", .threads = 1, .cores = {}}), Error);
  EXPECT_THROW(make_backend({.device = "cpu", .isa = "", .threads = 0, .cores = {}}), Error);
  EXPECT_EQ(make_backend({.device = "cpu", .isa = "", .threads = 1, .cores = {}})->name(),
            "cpu/" + available_isas().front());
}

TEST(CpuMemory, TensorsOutliveTheirBackendAndBlocksAreReused) {
  auto backend = backend_of("plain");
  Tensor kept = backend->from_host(std::span<const float>(Values{1.0f, 2.0f}), {2});
  backend->empty(DType::kF32, {1000});
  backend.reset();
  EXPECT_EQ(backend_of("plain")->to_host(kept), (Values{1.0f, 2.0f}));
}

}  // namespace
}  // namespace shoal
