// SPDX-License-Identifier: Apache-2.0
// Raw memory of a tensor, for backends and transports only; models, engine and apps never include this (tools/check_layers).
#pragma once

#include "tensor/tensor.h"

namespace shoal {

struct RawAccess {
  static std::byte* bytes(const Tensor& t) {
    return static_cast<std::byte*>(t.memory_.get()) + t.offset_ * static_cast<int64_t>(dtype_bytes(t.dtype_));
  }
};

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};

// First element; checks the type.
template <typename T>
T* raw(const Tensor& t) {
  CHECK(t.dtype() == DTypeOf<T>::value);
  return reinterpret_cast<T*>(RawAccess::bytes(t));
}

template <typename T>
T* raw_row(const Tensor& t, int64_t row) {
  return raw<T>(t) + row * t.row_stride();
}

}  // namespace shoal
