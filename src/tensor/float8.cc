// SPDX-License-Identifier: Apache-2.0
#include "tensor/float8.h"

#include <algorithm>
#include <cmath>

namespace shoal {

Float8 to_float8(float value) {
  if (std::isnan(value)) return {0x7f};
  const int sign = std::signbit(value) ? 0x80 : 0;
  const float magnitude = std::min(std::abs(value), 448.0f);
  if (magnitude == 0.0f) return {static_cast<uint8_t>(sign)};
  int exponent = 0;
  std::frexp(magnitude, &exponent);                                                   // magnitude < 2^exponent
  const int step = std::max(exponent - 4, -9);                                        // exponent of the last place
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, -step)));  // 0 to 16
  // Eight codes an exponent. Below eight steps the number is subnormal, and its
  // code is the steps; sixteen are the next exponent's first.
  return {static_cast<uint8_t>(sign | (steps + (step + 9) * 8))};
}

}  // namespace shoal
