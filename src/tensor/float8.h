// SPDX-License-Identifier: Apache-2.0
// Float8: an E4M3 number ("fn") as it lies in a tensor. Its value:
// f8e4m3_to_float (dtype.h).
#pragma once

#include "tensor/raw.h"

namespace shoal {

struct Float8 {
  uint8_t bits = 0;
};

// Nearest even; beyond the largest finite number, 448: that number
// (saturating).
Float8 to_float8(float value);

template <>
struct DTypeOf<Float8> {
  static constexpr DType value = DType::kF8E4M3;
};

}  // namespace shoal
