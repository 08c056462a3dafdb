// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <cstring>
#include <new>

#include "backend/reference/reference_backend.h"
#include "tensor/raw.h"

namespace shoal {

namespace {

template <typename T>
Tensor copy_in(Backend& backend, std::span<const T> values, const Shape& shape) {
  CHECK_EQ(static_cast<int64_t>(values.size()), shape.elements());
  const Tensor result = backend.empty(DTypeOf<T>::value, shape);
  for (size_t i = 0; i < values.size(); ++i) raw<T>(result)[i] = values[i];
  return result;
}

}  // namespace

Tensor ReferenceBackend::empty(DType dtype, const Shape& shape) {
  const size_t bytes = static_cast<size_t>(shape.elements()) * dtype_bytes(dtype);
  std::shared_ptr<void> memory(::operator new(bytes + 1), [](void* p) { ::operator delete(p); });
  std::memset(memory.get(), 0xff, bytes);
  return Tensor(dtype, shape, std::move(memory));
}

Tensor ReferenceBackend::zeros(DType dtype, const Shape& shape) {
  const size_t bytes = static_cast<size_t>(shape.elements()) * dtype_bytes(dtype);
  std::shared_ptr<void> memory(std::calloc(bytes + 1, 1),
                               std::free);  // a large KV cache is not touched before it is used
  if (!memory) throw std::bad_alloc();
  return Tensor(dtype, shape, std::move(memory));
}

Tensor ReferenceBackend::from_host(std::span<const float> values, const Shape& shape) {
  return copy_in(*this, values, shape);
}

Tensor ReferenceBackend::from_host(std::span<const int32_t> values, const Shape& shape) {
  return copy_in(*this, values, shape);
}

void ReferenceBackend::write_rows_from(const Tensor& tensor, int64_t row, int64_t count, const HostRows& values) {
  CHECK(0 <= row && row + count <= tensor.rows());
  CHECK(values.dtype == DType::kF32 || values.dtype == tensor.dtype());
  for (int64_t r = 0; r < count; ++r)
    for (int64_t i = 0; i < tensor.row_elements(); ++i) {
      const float value = values.at(r, i);
      if (tensor.dtype() == DType::kBF16) {
        raw_row<BFloat16>(tensor, row + r)[i] = to_bfloat16(value);
      } else {
        raw_row<float>(tensor, row + r)[i] = value;
      }
    }
}

std::vector<float> ReferenceBackend::to_host(const Tensor& tensor) {
  std::vector<float> values;
  values.reserve(static_cast<size_t>(tensor.elements()));
  for (int64_t row = 0; row < tensor.rows(); ++row)
    for (int64_t i = 0; i < tensor.row_elements(); ++i)
      values.push_back(tensor.dtype() == DType::kBF16 ? to_float(raw_row<BFloat16>(tensor, row)[i])
                                                      : raw_row<float>(tensor, row)[i]);
  return values;
}

std::vector<int32_t> ReferenceBackend::to_host_ids(const Tensor& tensor) {
  std::vector<int32_t> values;
  values.reserve(static_cast<size_t>(tensor.elements()));
  for (int64_t row = 0; row < tensor.rows(); ++row)
    for (int64_t i = 0; i < tensor.row_elements(); ++i) values.push_back(raw_row<int32_t>(tensor, row)[i]);
  return values;
}

}  // namespace shoal
