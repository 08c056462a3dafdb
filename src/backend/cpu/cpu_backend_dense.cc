// SPDX-License-Identifier: Apache-2.0
// CpuBackend: matrices and dense products.
#include <algorithm>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/gemm_run.h"
#include "base/error.h"
#include "tensor/raw.h"

namespace shoal {
namespace {

constexpr int64_t kEmbeddingGrain = 8192;  // elements, each pair in a cache line of its own

GemmProduct product_of(const Tensor& x, const PackedMatrix& w, const PackedRows& rows, const Tensor& out) {
  return {.w = w.panels(),
          .a = rows.data,
          .a_stride = rows.stride,
          .rows = x.rows(),
          .out = raw<float>(out),
          .out_stride = out.row_stride()};
}

RowSource rows_of(const Tensor& x) { return {.data = raw<float>(x), .rows = x.rows(), .stride = x.row_stride()}; }

}  // namespace

Matrix CpuBackend::new_matrix(const MatrixSpec& spec) {
  auto storage = std::make_shared<PackedMatrix>(gemm_, spec);
  storage->allocate(arena_);
  return Matrix(std::move(storage));
}

int64_t CpuBackend::matrix_bytes(const MatrixSpec& spec) const { return PackedMatrix(gemm_, spec).bytes; }

void CpuBackend::fill_rows_from(const Matrix& matrix, int64_t row, int64_t count, const HostRows& values) {
  CHECK(matrix.defined());
  static_cast<PackedMatrix&>(*matrix.storage()).fill_rows(row, count, values);
}

void CpuBackend::copy_matrix(const Matrix& from, const Matrix& to, int64_t begin, int64_t bytes) {
  CHECK(from.defined() && to.defined());
  static_cast<PackedMatrix&>(*to.storage()).copy_bytes(static_cast<const PackedMatrix&>(*from.storage()), begin, bytes);
}

Tensor CpuBackend::embedding(std::span<const int32_t> ids, const Matrix& w, Range vocab) {
  CHECK_EQ(w.out(), vocab.size());
  const Tensor out = empty(DType::kF32, {static_cast<int64_t>(ids.size()), w.in()});
  pool_.parallel_for(out.rows(), 1 + kEmbeddingGrain / (w.in() + 1), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int32_t id = ids[static_cast<size_t>(t)];
      if (vocab.contains(id)) {
        packed(w).read_row(id - vocab.begin, raw_row<float>(out, t));
      } else {
        std::fill_n(raw_row<float>(out, t), w.in(), 0.0f);
      }
    }
  });
  return out;
}

Tensor CpuBackend::matmul(const Tensor& x, const Matrix& w, const Tensor& bias) {
  CHECK_EQ(x.row_elements(), w.in());
  CHECK(w.spec().kind != MatrixKind::kGateUp);
  if (bias.defined()) CHECK_EQ(bias.elements(), w.out());
  const GemmRunner runner{gemm_, pool_, *allocator_};
  const Tensor out = empty(DType::kF32, {x.rows(), w.out()});
  const PackedRows rows = runner.pack(rows_of(x), packed(w));
  GemmProduct product = product_of(x, packed(w), rows, out);
  if (bias.defined()) product.bias = raw<float>(bias);
  runner.run({&product, 1});
  return out;
}

Tensor CpuBackend::matmul_partial(const Tensor& x, const Matrix& w) {
  CHECK(w.spec().kind == MatrixKind::kRow);
  return matmul(x, w, Tensor());
}

Tensor CpuBackend::gate_up(const Tensor& x, const Matrix& w, const GateSpec& gate) {
  CHECK_EQ(x.row_elements(), w.in());
  CHECK(w.spec().kind == MatrixKind::kGateUp);
  const GemmRunner runner{gemm_, pool_, *allocator_};
  const Tensor out = empty(DType::kF32, {x.rows(), w.out() / 2});
  const PackedRows rows = runner.pack(rows_of(x), packed(w));
  GemmProduct product = product_of(x, packed(w), rows, out);
  product.gated = true;
  product.clamped_swish = gate.kind == GateKind::kClampedSwish;
  product.limit = gate.limit;
  runner.run({&product, 1});
  return out;
}

Tensor CpuBackend::matmul_heads(const Tensor& x, std::span<const Matrix> w) {
  CHECK_EQ(x.size(1), static_cast<int64_t>(w.size()));
  const int64_t in = x.size(2);
  const int64_t out_dim = w.empty() ? 0 : w[0].out();
  const GemmRunner runner{gemm_, pool_, *allocator_};
  const Tensor out = empty(DType::kF32, {x.rows(), x.size(1), out_dim});
  std::vector<PackedRows> rows(w.size());
  std::vector<GemmProduct> products(w.size());
  for (size_t head = 0; head < w.size(); ++head) {
    CHECK_EQ(w[head].in(), in);
    CHECK_EQ(w[head].out(), out_dim);
    RowSource source = rows_of(x);
    source.data += static_cast<int64_t>(head) * in;
    rows[head] = runner.pack(source, packed(w[head]));
    products[head] = product_of(x, packed(w[head]), rows[head], out);
    products[head].out += static_cast<int64_t>(head) * out_dim;
  }
  runner.run(products);
  return out;
}

}  // namespace shoal
