// SPDX-License-Identifier: Apache-2.0
// What this machine can do right now: the denominators of every figure that the benchmarks print. Shared machines drift by the second, so
// PeakMeter takes samples of a few milliseconds that a benchmark puts between calls of what it times (beside_peaks.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "backend/cpu/thread_pool.h"

namespace shoal::bench {

// The instruction-set path to measure: the environment's SHOAL_BENCH_ISA, or "" for the best one here.
std::string isa_under_test();

// Arithmetic is that of the path under test.
struct Peaks {
  double read_gb_s = 0;    // memory that no cache holds, by the access pattern that was fastest here
  double copy_gb_s = 0;    // bytes copied (read and written once each) of the same memory
  double f32_gflop_s = 0;  // independent fused multiply-adds of the widest vectors
  // What bf16 products can reach: the pair or tile instruction where there is one (half of it where activations are two bf16 each), else f32's
  // rate.
  double bf16_gflop_s = 0;
};

// How memory is read: as streams side by side, fetched so many bytes ahead, and into the second cache from further ahead too or not.
struct ReadPattern {
  int64_t streams = 1;
  size_t ahead = 0;
  bool far = false;
};

class PeakMeter {
 public:
  // Takes 256 MiB a thread, and tries the access patterns.
  explicit PeakMeter(int threads);
  // All threads at once, everything measured once; copying only if asked for.
  Peaks sample(bool copy = false);

 private:
  double read_gb_s();
  double copy_gb_s();
  double gflop_s(void (*dot)(), int flops);
  std::byte* next_window();

  ThreadPool pool_;
  int64_t threads_;
  std::shared_ptr<std::byte> memory_;
  size_t windows_;
  size_t next_ = 0;
  ReadPattern pattern_;
};

// The best of several samples.
Peaks measure_peaks(int threads);

}  // namespace shoal::bench
