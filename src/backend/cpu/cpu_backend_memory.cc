// SPDX-License-Identifier: Apache-2.0
// CpuBackend: construction and memory.
#include <algorithm>
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/gemm_run.h"
#include "base/error.h"
#include "tensor/raw.h"

namespace shoal {
namespace {

std::shared_ptr<MemoryMeter> meter_of(const BackendOptions& options) {
  return options.memory ? options.memory : std::make_shared<MemoryMeter>();
}

}  // namespace

CpuBackend::CpuBackend(const BackendOptions& options)
    : isa_(isa_from_name(options.isa)),
      gemm_(gemm_kernels(isa_)),
      pool_(options.dry ? ThreadPool(options.threads, ThreadPool::Dry()) : ThreadPool(options.threads, options.cores)),
      allocator_(std::make_shared<Allocator>(meter_of(options), options.dry)),
      arena_(meter_of(options)) {}

CpuBackend::~CpuBackend() = default;

std::string CpuBackend::name() const { return "cpu/" + std::string(isa_name(isa_)); }

Tensor CpuBackend::empty(DType dtype, const Shape& shape) {
  const size_t bytes = static_cast<size_t>(shape.elements()) * dtype_bytes(dtype);
  return {dtype, shape, allocator_->allocate(bytes)};
}

Tensor CpuBackend::zeros(DType dtype, const Shape& shape) {
  const Tensor tensor = empty(dtype, shape);
  if (pool_.dry()) return tensor;
  std::memset(RawAccess::bytes(tensor), 0, static_cast<size_t>(tensor.bytes()));
  return tensor;
}

Tensor CpuBackend::kept_zeros(DType dtype, const Shape& shape) {
  return {dtype, shape, arena_.allocate(static_cast<size_t>(shape.elements()) * dtype_bytes(dtype))};
}

Tensor CpuBackend::from_host(std::span<const float> values, const Shape& shape) {
  CHECK_EQ(static_cast<int64_t>(values.size()), shape.elements());
  const Tensor tensor = empty(DType::kF32, shape);
  std::copy(values.begin(), values.end(), raw<float>(tensor));
  return tensor;
}

Tensor CpuBackend::from_host(std::span<const int32_t> values, const Shape& shape) {
  CHECK_EQ(static_cast<int64_t>(values.size()), shape.elements());
  const Tensor tensor = empty(DType::kI32, shape);
  std::copy(values.begin(), values.end(), raw<int32_t>(tensor));
  return tensor;
}

void CpuBackend::write_rows_from(const Tensor& tensor, int64_t row, int64_t count, const HostRows& values) {
  const int64_t n = tensor.row_elements();
  CHECK(0 <= row && row + count <= tensor.rows());
  CHECK(values.dtype == DType::kF32 || values.dtype == tensor.dtype());
  for (int64_t r = 0; r < count; ++r) {
    if (tensor.dtype() == DType::kF32) {
      std::memcpy(raw_row<float>(tensor, row + r), values.data + r * values.stride,
                  static_cast<size_t>(n) * sizeof(float));
      continue;
    }
    BFloat16* target = raw_row<BFloat16>(tensor, row + r);
    if (values.dtype == DType::kBF16) {
      std::memcpy(target, values.data + r * values.stride, static_cast<size_t>(n) * sizeof(BFloat16));
    } else {
      for (int64_t i = 0; i < n; ++i) target[i] = to_bfloat16(values.at(r, i));
    }
  }
}

std::vector<float> CpuBackend::to_host(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  const int64_t n = tensor.row_elements();
  for (int64_t row = 0; row < tensor.rows(); ++row) {
    float* target = values.data() + row * n;
    if (tensor.dtype() == DType::kBF16) {
      const BFloat16* source = raw_row<BFloat16>(tensor, row);
      std::transform(source, source + n, target, [](BFloat16 value) { return to_float(value); });
    } else {
      std::copy_n(raw_row<float>(tensor, row), n, target);
    }
  }
  return values;
}

std::vector<int32_t> CpuBackend::to_host_ids(const Tensor& tensor) {
  std::vector<int32_t> values(static_cast<size_t>(tensor.elements()));
  const int64_t n = tensor.row_elements();
  for (int64_t row = 0; row < tensor.rows(); ++row) {
    std::copy_n(raw_row<int32_t>(tensor, row), n, values.data() + row * n);
  }
  return values;
}

}  // namespace shoal
