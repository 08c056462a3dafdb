// SPDX-License-Identifier: Apache-2.0
// Small functions of whole numbers. Not for files compiled for one instruction set: an inline function must be the same everywhere.
#pragma once

#include <charconv>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <string_view>

namespace shoal {

// a / b rounded up; a >= 0, b > 0.
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int64_t sum(std::span<const int64_t> values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

// The number that the whole text is, in decimal; nothing if it is anything else or does not fit.
inline std::optional<int64_t> whole_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

}  // namespace shoal
