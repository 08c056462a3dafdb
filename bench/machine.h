// SPDX-License-Identifier: Apache-2.0
// What this machine can do right now: the denominators of every figure that the benchmarks print. Shared machines drift by the second, so
// PeakMeter takes samples of a few milliseconds that a benchmark puts between calls of what it times (beside_peaks.h).
#pragma once

#include <sched.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/thread_pool.h"

namespace shoal::bench {

// The instruction-set path to measure: the environment's SHOAL_BENCH_ISA, or "" for the best one here.
std::string isa_under_test();

// Arithmetic is that of the path under test.
struct Peaks {
  double read_gb_s = 0;    // memory that no cache holds, by the access pattern that was fastest here
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

// Cores for one rank's threads, which the engine would give it too: thread i to cores[i]. Some systems wake two threads that slept on one core and
// leave them there for milliseconds. Empty: threads stay where the system puts them. Of the cores that the calling thread may use: ask before StayOn.
std::vector<int> cores_for(int threads);

// Keeps the calling thread on the first of `cores`, if there is one, until the end of the scope.
class StayOn {
 public:
  explicit StayOn(const std::vector<int>& cores);
  ~StayOn();
  StayOn(const StayOn&) = delete;
  StayOn& operator=(const StayOn&) = delete;

 private:
  cpu_set_t before_;
};

class PeakMeter {
 public:
  // Takes 256 MiB a thread, and tries the access patterns.
  explicit PeakMeter(int threads);
  // What the machine could do since the last call, or since the meter was made: the mean of what the best of `samples` showed then and shows now.
  // After seconds of other work, take several: memory that was not read meanwhile comes at a fraction of its rate at times.
  Peaks since_last(int samples = 1);
  const std::vector<int>& cores() const { return cores_; }

 private:
  Peaks best_of(int samples);
  Peaks sample();  // all threads at once, everything measured once
  double read_gb_s();
  double gflop_s(void (*dot)(), int flops);
  std::byte* next_window();

  const std::vector<int> cores_;
  ThreadPool pool_;
  int64_t threads_;
  std::shared_ptr<std::byte> memory_;
  size_t windows_;
  size_t next_ = 0;
  ReadPattern pattern_;
  Peaks last_;
};

}  // namespace shoal::bench
