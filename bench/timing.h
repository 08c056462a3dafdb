// SPDX-License-Identifier: Apache-2.0
// A clock and the middle of what it showed.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

namespace shoal::bench {

// Seconds since some moment of the past.
inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The upper one of the two in the middle if there are two.
inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace shoal::bench
