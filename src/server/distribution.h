// SPDX-License-Identifier: Apache-2.0
// Distribution: how often values fell into each class, lock-free. A class is (previous bound, its bound]; the last has no bound.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

namespace shoal {

class Distribution {
 public:
  explicit Distribution(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

  void add(double value) {
    const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
    counts_[at].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }

  const std::vector<double>& bounds() const { return bounds_; }
  std::vector<int64_t> counts() const { return {counts_.begin(), counts_.end()}; }  // by class
  double sum() const { return sum_; }

 private:
  const std::vector<double> bounds_;
  std::vector<std::atomic<int64_t>> counts_;
  std::atomic<double> sum_{0.0};
};

}  // namespace shoal
