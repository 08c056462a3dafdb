// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/elementwise.h"
#include "tensor/raw.h"

namespace shoal {

namespace {

// Rows of work worth a thread of their own, by elements of a row.
int64_t grain_rows(int64_t row_elements) { return 1 + 16384 / (row_elements + 1); }

size_t row_bytes(const Tensor& x) { return static_cast<size_t>(x.row_elements()) * dtype_bytes(x.dtype()); }

std::byte* row_start(const Tensor& x, int64_t row) {
  return RawAccess::bytes(x) + row * x.row_stride() * static_cast<int64_t>(dtype_bytes(x.dtype()));
}

Shape with_rows(const Shape& shape, int64_t rows) {
  switch (shape.rank()) {
    case 1:
      return {rows};
    case 2:
      return {rows, shape[1]};
    case 3:
      return {rows, shape[1], shape[2]};
    default:
      return {rows, shape[1], shape[2], shape[3]};
  }
}

struct Norm {
  const Tensor& weight;
  float epsilon;
};

// out = norm of x over the last dimension; out may be x.
void normalise(ThreadPool& pool, const RowKernels& kernels, const Tensor& x, const Norm& norm, const Tensor& out) {
  const int64_t n = x.size(x.shape().rank() - 1);
  if (norm.weight.defined()) CHECK_EQ(norm.weight.elements(), n);
  const float* weight = norm.weight.defined() ? raw<float>(norm.weight) : nullptr;
  pool.parallel_for(x.rows(), grain_rows(x.row_elements()), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t first = 0; first < x.row_elements(); first += n)
        kernels.rms_norm(raw_row<float>(x, row) + first, weight, norm.epsilon, n, raw_row<float>(out, row) + first);
  });
}

}  // namespace

void CpuBackend::add(const Tensor& x, const Tensor& y) {
  CHECK(x.shape() == y.shape());
  const int64_t n = x.row_elements();
  pool_.parallel_for(x.rows(), grain_rows(n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* target = raw_row<float>(x, row);
      const float* term = raw_row<float>(y, row);
      for (int64_t i = 0; i < n; ++i) target[i] += term[i];
    }
  });
}

void CpuBackend::add_bias(const Tensor& x, const Tensor& bias) {
  const int64_t n = x.row_elements();
  CHECK_EQ(bias.elements(), n);
  const float* term = raw<float>(bias);
  pool_.parallel_for(x.rows(), grain_rows(n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* target = raw_row<float>(x, row);
      for (int64_t i = 0; i < n; ++i) target[i] += term[i];
    }
  });
}

Tensor CpuBackend::rms_norm(const Tensor& x, const Tensor& weight, float epsilon) {
  const Tensor out = empty(DType::kF32, x.shape());
  normalise(pool_, row_kernels(isa_), x, {weight, epsilon}, out);
  return out;
}

void CpuBackend::rms_norm_inplace(const Tensor& x, const Tensor& weight, float epsilon) {
  normalise(pool_, row_kernels(isa_), x, {weight, epsilon}, x);
}

void CpuBackend::rope(const Tensor& x, std::span<const int32_t> positions, const RopeTable& table, int64_t first) {
  CHECK_EQ(x.rows(), static_cast<int64_t>(positions.size()));
  const int64_t pairs = table.cos.size(1);
  const int64_t dim = x.size(2);
  CHECK_LE(first + 2 * pairs, dim);
  const RowKernels& kernels = row_kernels(isa_);
  const auto rotate = table.interleaved ? kernels.rope_interleaved : kernels.rope_halves;
  pool_.parallel_for(x.rows(), grain_rows(x.row_elements()), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int32_t position = positions[static_cast<size_t>(row)];
      CHECK(0 <= position && position < table.cos.rows());
      const float* cos = raw_row<float>(table.cos, position);
      const float* sin = raw_row<float>(table.sin, position);
      for (int64_t head = 0; head < x.size(1); ++head)
        rotate(raw_row<float>(x, row) + head * dim + first, cos, sin, pairs);
    }
  });
}

void CpuBackend::scale_rows(const Tensor& x, std::span<const float> factors) {
  CHECK_EQ(x.rows(), static_cast<int64_t>(factors.size()));
  const int64_t n = x.row_elements();
  pool_.parallel_for(x.rows(), grain_rows(n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* target = raw_row<float>(x, row);
      const float factor = factors[static_cast<size_t>(row)];
      for (int64_t i = 0; i < n; ++i) target[i] *= factor;
    }
  });
}

Tensor CpuBackend::concat_columns(std::span<const Tensor> parts) {
  CHECK(!parts.empty());
  int64_t columns = 0;
  for (const Tensor& part : parts) columns += part.row_elements();
  const Tensor out = empty(DType::kF32, {parts[0].rows(), columns});
  int64_t first = 0;
  for (const Tensor& part : parts) {
    CHECK_EQ(part.rows(), out.rows());
    for (int64_t row = 0; row < out.rows() && !pool_.dry(); ++row)
      std::memcpy(raw_row<float>(out, row) + first, raw_row<float>(part, row), row_bytes(part));
    first += part.row_elements();
  }
  return out;
}

Tensor CpuBackend::gather_rows(const Tensor& x, std::span<const int32_t> rows) {
  const Tensor out = empty(x.dtype(), with_rows(x.shape(), static_cast<int64_t>(rows.size())));
  for (size_t i = 0; i < rows.size(); ++i) {
    CHECK(0 <= rows[i] && rows[i] < x.rows());
    if (pool_.dry()) continue;
    std::memcpy(row_start(out, static_cast<int64_t>(i)), row_start(x, rows[i]), row_bytes(x));
  }
  return out;
}

void CpuBackend::scatter_rows(const Tensor& x, std::span<const int32_t> rows, const Tensor& values) {
  CHECK_EQ(values.rows(), static_cast<int64_t>(rows.size()));
  CHECK_EQ(values.row_elements(), x.row_elements());
  CHECK(values.dtype() == x.dtype());
  for (size_t i = 0; i < rows.size(); ++i) {
    CHECK(0 <= rows[i] && rows[i] < x.rows());
    if (pool_.dry()) continue;
    std::memcpy(row_start(x, rows[i]), row_start(values, static_cast<int64_t>(i)), row_bytes(x));
  }
}

Tensor CpuBackend::lookup(const Tensor& ids, const Tensor& table) {
  const Tensor out = empty(DType::kI32, ids.shape());
  const int32_t* entries = raw<int32_t>(table);
  for (int64_t row = 0; row < ids.rows(); ++row)
    for (int64_t i = 0; i < ids.row_elements(); ++i) {
      const int32_t id = raw_row<int32_t>(ids, row)[i];
      CHECK(0 <= id && id < table.elements());
      raw_row<int32_t>(out, row)[i] = entries[id];
    }
  return out;
}

}  // namespace shoal
