// SPDX-License-Identifier: Apache-2.0
// What this machine can do right now: the denominators of every figure that the benchmarks print. Measured again before each benchmark,
// because shared machines drift by the minute. Each is the best of several short runs on all `threads` at once.
#pragma once

namespace shoal::bench {

struct Peaks {
  double read_gb_s = 0;     // one stream a thread over memory that no cache holds
  double copy_gb_s = 0;     // bytes copied (read and written once each) of the same memory
  double f32_gflop_s = 0;   // independent fused multiply-adds of the widest vectors
  double bf16_gflop_s = 0;  // what bf16 products can reach: the pair instruction where there is one, else f32's rate
};

Peaks measure_peaks(int threads);

}  // namespace shoal::bench
