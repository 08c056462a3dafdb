// SPDX-License-Identifier: Apache-2.0
// RankMeter: where one rank's time goes. Its own thread writes, any thread reads; what is read is a few nanoseconds out of step at worst.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "engine/engine_stats.h"

namespace shoal {

class RankMeter {
 public:
  using Clock = std::chrono::steady_clock;

  // `busy_since`: since when the replica has had steps in flight without a break. Waiting before that is not counted.
  void begin_step(Clock::time_point busy_since) {
    begin_ = Clock::now();
    const Clock::time_point free_since = end_ > busy_since ? end_ : busy_since;
    if (begin_ > free_since) idle_ += nanoseconds(begin_ - free_since);
    others_ = communication + stage + idle_;
  }
  void end_step() {
    end_ = Clock::now();
    compute_ += nanoseconds(end_ - begin_) - (communication + stage + idle_ - others_);
    ++steps_;
  }
  // In the middle of a step: something that the step needs was not there yet.
  void waited(Clock::duration time) { idle_ += nanoseconds(time); }

  RankStats stats(int rank, const Coordinates& at) const {
    constexpr double kNanosecond = 1e-9;
    return {.rank = rank,
            .at = at,
            .steps = steps_,
            .compute_seconds = static_cast<double>(compute_) * kNanosecond,
            .communication_seconds = static_cast<double>(communication) * kNanosecond,
            .stage_seconds = static_cast<double>(stage) * kNanosecond,
            .idle_seconds = static_cast<double>(idle_) * kNanosecond};
  }

  std::atomic<int64_t> communication{0};  // nanoseconds in groups of one stage
  std::atomic<int64_t> stage{0};          // nanoseconds with other stages

 private:
  static int64_t nanoseconds(Clock::duration time) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  }

  Clock::time_point begin_, end_;
  int64_t others_ = 0;
  std::atomic<int64_t> steps_{0}, compute_{0}, idle_{0};
};

}  // namespace shoal
