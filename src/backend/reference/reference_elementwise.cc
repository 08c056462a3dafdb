// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "backend/reference/reference_backend.h"
#include "tensor/raw.h"

namespace shoal {

namespace {

// out = x / rms(x) * weight over n elements; weight may be null, out may be x.
void normalise(const float* x, const float* weight, float epsilon, int64_t n, float* out) {
  double squares = 0.0;
  for (int64_t i = 0; i < n; ++i) squares += double{x[i]} * double{x[i]};
  const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(n) + double{epsilon});
  for (int64_t i = 0; i < n; ++i)
    out[i] = static_cast<float>(double{x[i]} * inverse * (weight ? double{weight[i]} : 1.0));
}

}  // namespace

void ReferenceBackend::add(const Tensor& x, const Tensor& y) {
  CHECK(x.shape() == y.shape());
  for (int64_t row = 0; row < x.rows(); ++row)
    for (int64_t i = 0; i < x.row_elements(); ++i) raw_row<float>(x, row)[i] += raw_row<float>(y, row)[i];
}

void ReferenceBackend::add_bias(const Tensor& x, const Tensor& bias) {
  CHECK_EQ(x.row_elements(), bias.elements());
  for (int64_t row = 0; row < x.rows(); ++row)
    for (int64_t i = 0; i < x.row_elements(); ++i) raw_row<float>(x, row)[i] += raw<float>(bias)[i];
}

Tensor ReferenceBackend::rms_norm(const Tensor& x, const Tensor& weight, float epsilon) {
  const Tensor out = empty(DType::kF32, x.shape());
  const int64_t n = x.size(x.shape().rank() - 1);
  for (int64_t row = 0; row < x.rows(); ++row)
    for (int64_t first = 0; first < x.row_elements(); first += n)
      normalise(raw_row<float>(x, row) + first, weight.defined() ? raw<float>(weight) : nullptr, epsilon, n,
                raw_row<float>(out, row) + first);
  return out;
}

void ReferenceBackend::rms_norm_inplace(const Tensor& x, const Tensor& weight, float epsilon) {
  const int64_t n = x.size(x.shape().rank() - 1);
  for (int64_t row = 0; row < x.rows(); ++row)
    for (int64_t first = 0; first < x.row_elements(); first += n) {
      float* values = raw_row<float>(x, row) + first;
      normalise(values, weight.defined() ? raw<float>(weight) : nullptr, epsilon, n, values);
    }
}

void ReferenceBackend::rope(const Tensor& x, std::span<const int32_t> positions, const RopeTable& table,
                            int64_t first) {
  const int64_t pairs = table.cos.size(1);
  const int64_t dim = x.size(2);
  CHECK_LE(first + 2 * pairs, dim);
  for (int64_t row = 0; row < x.rows(); ++row) {
    const int32_t position = positions[static_cast<size_t>(row)];
    for (int64_t head = 0; head < x.size(1); ++head) {
      float* values = raw_row<float>(x, row) + head * dim + first;
      for (int64_t i = 0; i < pairs; ++i) {
        float& a = values[table.interleaved ? 2 * i : i];
        float& b = values[table.interleaved ? 2 * i + 1 : i + pairs];
        const double cos = raw_row<float>(table.cos, position)[i];
        const double sin = raw_row<float>(table.sin, position)[i];
        const double rotated_a = double{a} * cos - double{b} * sin;
        const double rotated_b = double{b} * cos + double{a} * sin;
        a = static_cast<float>(rotated_a);
        b = static_cast<float>(rotated_b);
      }
    }
  }
}

void ReferenceBackend::scale_rows(const Tensor& x, std::span<const float> factors) {
  CHECK_EQ(x.rows(), static_cast<int64_t>(factors.size()));
  for (int64_t row = 0; row < x.rows(); ++row)
    for (int64_t i = 0; i < x.row_elements(); ++i) raw_row<float>(x, row)[i] *= factors[static_cast<size_t>(row)];
}

Tensor ReferenceBackend::concat_columns(std::span<const Tensor> parts) {
  CHECK(!parts.empty());
  int64_t columns = 0;
  for (const Tensor& part : parts) columns += part.row_elements();
  const Tensor out = empty(DType::kF32, {parts[0].rows(), columns});
  int64_t first = 0;
  for (const Tensor& part : parts) {
    CHECK_EQ(part.rows(), out.rows());
    for (int64_t row = 0; row < part.rows(); ++row)
      std::copy_n(raw_row<float>(part, row), part.row_elements(), raw_row<float>(out, row) + first);
    first += part.row_elements();
  }
  return out;
}

Tensor ReferenceBackend::gather_rows(const Tensor& x, std::span<const int32_t> rows) {
  const Tensor out = empty(DType::kF32, {static_cast<int64_t>(rows.size()), x.row_elements()});
  for (size_t i = 0; i < rows.size(); ++i) {
    CHECK(0 <= rows[i] && rows[i] < x.rows());
    std::copy_n(raw_row<float>(x, rows[i]), x.row_elements(), raw_row<float>(out, static_cast<int64_t>(i)));
  }
  return out;
}

void ReferenceBackend::scatter_rows(const Tensor& x, std::span<const int32_t> rows, const Tensor& values) {
  CHECK_EQ(values.rows(), static_cast<int64_t>(rows.size()));
  CHECK_EQ(values.row_elements(), x.row_elements());
  for (size_t i = 0; i < rows.size(); ++i) {
    CHECK(0 <= rows[i] && rows[i] < x.rows());
    std::copy_n(raw_row<float>(values, static_cast<int64_t>(i)), x.row_elements(), raw_row<float>(x, rows[i]));
  }
}

Tensor ReferenceBackend::lookup(const Tensor& ids, const Tensor& table) {
  const Tensor out = empty(DType::kI32, ids.shape());
  for (int64_t row = 0; row < ids.rows(); ++row)
    for (int64_t i = 0; i < ids.row_elements(); ++i) {
      const int32_t id = raw_row<int32_t>(ids, row)[i];
      CHECK(0 <= id && id < table.elements());
      raw_row<int32_t>(out, row)[i] = raw<int32_t>(table)[id];
    }
  return out;
}

}  // namespace shoal
