// SPDX-License-Identifier: Apache-2.0
// MemoryMeter: bytes that a backend has handed out and not got back, weights and caches included, and the most of them at a time.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace shoal {

class MemoryMeter {
 public:
  void add(int64_t bytes) {
    const int64_t now = now_ += bytes;
    int64_t peak = peak_;
    while (now > peak && !peak_.compare_exchange_weak(peak, now)) {
    }
  }
  void remove(int64_t bytes) { now_ -= bytes; }
  int64_t now() const { return now_; }
  int64_t peak() const { return peak_; }
  void forget_peak() { peak_ = now_.load(); }

 private:
  std::atomic<int64_t> now_{0}, peak_{0};
};

}  // namespace shoal
