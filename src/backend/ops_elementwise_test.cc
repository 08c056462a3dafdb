// SPDX-License-Identifier: Apache-2.0
// Conformance of embedding, additions, norms, rotary positions, row scaling, joining and gathering.
#include <algorithm>

#include "backend/ops_test.h"
#include "tensor/raw.h"

namespace shoal {
namespace {

class ElementwiseOps : public OpsTest {
 protected:
  // Runs `op` on this backend and on the reference and compares what it returns.
  template <typename Op>
  void compare(const Op& op, double tolerance, const std::string& what) {
    expect_close(op(*backend_), op(reference_), tolerance, what);
  }

  RopeTable rope_table(Backend& backend, int64_t positions, int64_t rotary_dim, bool interleaved) {
    std::vector<float> cos, sin;
    for (int64_t p = 0; p < positions; ++p)
      for (int64_t i = 0; i < rotary_dim / 2; ++i) {
        const double angle = static_cast<double>(p) * std::pow(10000.0, -2.0 * double(i) / double(rotary_dim));
        cos.push_back(static_cast<float>(1.1 * std::cos(angle)));
        sin.push_back(static_cast<float>(1.1 * std::sin(angle)));
      }
    return {.cos = backend.from_host(std::span<const float>(cos), {positions, rotary_dim / 2}),
            .sin = backend.from_host(std::span<const float>(sin), {positions, rotary_dim / 2}),
            .interleaved = interleaved};
  }
};

TEST_P(ElementwiseOps, EmbeddingCopiesOwnedRowsAndZeroesOthers) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t hidden : {1, 7, 64, 130}) {
      const Range vocab = {10, 110};  // more than a panel
      const std::vector<float> values = random(vocab.size() * hidden);
      const Matrix table = backend_->new_matrix({.out = vocab.size(), .in = hidden, .dtype = dtype});
      backend_->fill_rows(table, 0, vocab.size(), values);
      std::vector<float> stored = values;
      if (dtype == DType::kBF16)
        for (float& value : stored) value = to_float(to_bfloat16(value));
      const std::vector<int32_t> ids = {10, 109, 9, 110, 0, 15, 15, 74};
      std::vector<float> expected;
      for (const int32_t id : ids)
        for (int64_t i = 0; i < hidden; ++i)
          expected.push_back(vocab.contains(id) ? stored[static_cast<size_t>((id - 10) * hidden + i)] : 0.0f);
      expect_same_bits(backend_->to_host(backend_->embedding(ids, table, vocab)), expected, "embedding");
      EXPECT_EQ(backend_->embedding({}, table, vocab).rows(), 0);
    }
  }
}

TEST_P(ElementwiseOps, AddAndBias) {
  for (const int64_t rows : {0, 1, 5, 300}) {
    for (const int64_t n : {1, 15, 16, 33, 515}) {
      const auto x = random(rows * n), y = random(rows * n), bias = random(n);
      for (const int64_t padding : {0, 3}) {
        compare(
            [&](Backend& b) {
              const Tensor target = strided(b, x, rows, n, padding);
              b.add(target, strided(b, y, rows, n, 2 * padding));
              b.add_bias(target, vector(b, bias));
              return b.to_host(target);
            },
            2e-7, "add");
      }
    }
  }
}

TEST_P(ElementwiseOps, AddLeavesNeighboursOfAView) {
  const Tensor wide = backend_->zeros(DType::kF32, {4, 40});
  const Tensor ones = strided(*backend_, std::vector<float>(4 * 21, 1.0f), 4, 21, 0);
  backend_->add(wide.slice_columns(9, 30), ones);
  backend_->add_bias(wide.slice_columns(9, 30), vector(*backend_, std::vector<float>(21, 2.0f)));
  const std::vector<float> values = backend_->to_host(wide);
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], i % 40 >= 9 && i % 40 < 30 ? 3.0f : 0.0f) << i;
}

TEST_P(ElementwiseOps, RmsNorm) {
  for (const int64_t rows : {0, 1, 4, 67}) {
    for (const int64_t n : {1, 5, 16, 31, 64, 100, 1029}) {
      const auto x = random(rows * n, -3.0f, 3.0f), weight = random(n, 0.5f, 2.0f);
      for (const bool weighted : {true, false}) {
        compare(
            [&](Backend& b) {
              const Tensor w = weighted ? vector(b, weight) : Tensor();
              return b.to_host(b.rms_norm(strided(b, x, rows, n, n % 3), w, 1e-5f));
            },
            1e-6, "rms_norm");
      }
    }
  }
}

TEST_P(ElementwiseOps, RmsNormInplacePerHead) {
  for (const int64_t head_dim : {8, 24, 64, 129}) {
    const int64_t rows = 9, heads = 3;
    const auto x = random(rows * heads * head_dim), weight = random(head_dim);
    for (const int64_t padding : {0, 5}) {
      compare(
          [&](Backend& b) {
            const Tensor t = strided(b, x, rows, heads * head_dim, padding).view({rows, heads, head_dim});
            b.rms_norm_inplace(t, vector(b, weight), 1e-6f);
            return b.to_host(t);
          },
          1e-6, "rms_norm_inplace");
    }
  }
}

TEST_P(ElementwiseOps, RmsNormOfARowDoesNotDependOnItsBatch) {
  const int64_t rows = 70, n = 517;
  const auto x = random(rows * n), weight = random(n);
  const Tensor batch = strided(*backend_, x, rows, n, 0);
  const Tensor w = vector(*backend_, weight);
  const std::vector<float> whole = backend_->to_host(backend_->rms_norm(batch, w, 1e-5f));
  for (const int64_t row : {int64_t{0}, int64_t{33}, rows - 1}) {
    const std::vector<float> expected(whole.begin() + row * n, whole.begin() + (row + 1) * n);
    expect_same_bits(backend_->to_host(backend_->rms_norm(batch.slice_rows(row, row + 1), w, 1e-5f)), expected, "row");
  }
}

TEST_P(ElementwiseOps, Rope) {
  for (const bool interleaved : {false, true}) {
    for (const int64_t rotary_dim : {2, 8, 10, 64}) {
      for (const int64_t first : {0, 6}) {
        const int64_t rows = 13, heads = 3, dim = rotary_dim + first + 5;
        const auto x = random(rows * heads * dim);
        std::vector<int32_t> positions;
        for (int64_t i = 0; i < rows; ++i) positions.push_back(static_cast<int32_t>(random_int(0, 99)));
        compare(
            [&](Backend& b) {
              const Tensor t = strided(b, x, rows, heads * dim, first).view({rows, heads, dim});
              b.rope(t, positions, rope_table(b, 100, rotary_dim, interleaved), first);
              return b.to_host(t);
            },
            3e-7, "rope");
      }
    }
  }
}

TEST_P(ElementwiseOps, RopeOfARowDoesNotDependOnItsBatch) {
  for (const bool interleaved : {false, true}) {
    const int64_t rows = 40, heads = 2, dim = 20;
    const auto x = random(rows * heads * dim);
    std::vector<int32_t> positions;
    for (int32_t i = 0; i < rows; ++i) positions.push_back(i);
    const RopeTable table = rope_table(*backend_, rows, dim, interleaved);
    const auto run = [&](int64_t begin, int64_t end) {
      const Tensor t =
          strided(*backend_, x, rows, heads * dim, 0).slice_rows(begin, end).view({end - begin, heads, dim});
      backend_->rope(t, std::span(positions).subspan(size_t(begin), size_t(end - begin)), table, 0);
      return backend_->to_host(t);
    };
    const std::vector<float> whole = run(0, rows);
    const std::vector<float> expected(whole.begin() + 17 * heads * dim, whole.begin() + 18 * heads * dim);
    expect_same_bits(run(17, 18), expected, "rope row");
  }
}

TEST_P(ElementwiseOps, ScaleRows) {
  for (const int64_t rows : {0, 1, 6}) {
    const int64_t n = 37;
    const auto x = random(rows * n), factors = random(rows);
    compare(
        [&](Backend& b) {
          const Tensor t = strided(b, x, rows, n, 4);
          b.scale_rows(t, factors);
          return b.to_host(t);
        },
        1e-7, "scale_rows");
  }
}

TEST_P(ElementwiseOps, ConcatColumnsAndGatherRows) {
  for (const int64_t rows : {0, 1, 19}) {
    const auto a = random(rows * 3), c = random(rows * 50);
    compare(
        [&](Backend& b) {
          const std::vector<Tensor> parts = {strided(b, a, rows, 3, 1), strided(b, c, rows, 50, 0),
                                             strided(b, a, rows, 3, 0)};
          return b.to_host(b.concat_columns(parts));
        },
        0.0, "concat_columns");
    std::vector<int32_t> picked;
    for (int64_t i = 0; i < 2 * rows; ++i) picked.push_back(static_cast<int32_t>(random_int(0, rows - 1)));
    compare([&](Backend& b) { return b.to_host(b.gather_rows(strided(b, c, rows, 50, 2), picked)); }, 0.0, "gather");
  }
}

TEST_P(ElementwiseOps, InstructionSetsChangeNoBit) {
  const std::unique_ptr<Backend> plain = make_backend({.device = "cpu", .isa = "plain", .threads = 1, .cores = {}});
  const int64_t rows = 11, n = 90;
  const auto x = random(rows * n, -4.0f, 4.0f), weight = random(n);
  std::vector<int32_t> positions;
  for (int32_t i = 0; i < rows; ++i) positions.push_back(7 * i);
  const auto run = [&](Backend& b) {
    const Tensor y = b.rms_norm(strided(b, x, rows, n, 0), vector(b, weight), 1e-5f).view({rows, 3, n / 3});
    b.rope(y, positions, rope_table(b, 100, 20, false), 3);
    b.rope(y, positions, rope_table(b, 100, 22, true), 5);
    std::vector<float> result = b.to_host(y);
    for (const Scoring scoring : {Scoring::kSoftmax, Scoring::kSigmoid}) {
      const RouterSpec spec = {.experts = n, .top_k = 9, .scoring = scoring, .renormalise = true, .scale = 2.5f};
      const std::vector<float> weights = b.to_host(b.route(y.view({rows, n}), spec).weights);
      result.insert(result.end(), weights.begin(), weights.end());
    }
    return result;
  };
  expect_same_bits(run(*backend_), run(*plain), "plain");
}

TEST_P(ElementwiseOps, ScatterRowsAndLookup) {
  const auto x = random(12 * 19), values = random(4 * 19);
  const std::vector<int32_t> rows = {7, 0, 11, 3};
  compare(
      [&](Backend& b) {
        const Tensor target = strided(b, x, 12, 19, 3);
        b.scatter_rows(target, rows, strided(b, values, 4, 19, 1));
        return b.to_host(target);
      },
      0.0, "scatter_rows");
  const std::vector<int32_t> ids = {2, 0, 2, 1}, table = {30, 10, -1};
  const Tensor found = backend_->lookup(backend_->from_host(std::span<const int32_t>(ids), {2, 2}),
                                        backend_->from_host(std::span<const int32_t>(table), {3}));
  EXPECT_EQ(found.shape(), (Shape{2, 2}));
  EXPECT_EQ(backend_->to_host_ids(found), (std::vector<int32_t>{-1, 30, -1, 10}));
}

SHOAL_INSTANTIATE_OPS(ElementwiseOps);

}  // namespace
}  // namespace shoal
