// SPDX-License-Identifier: Apache-2.0
// RankMeter: where one rank's time goes, and how much it does. Its own thread writes, any thread reads; what is read is a few nanoseconds
// out of step at worst.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "comm/timed_comm.h"
#include "engine/engine_stats.h"

namespace shoal {

class RankMeter {
 public:
  using Clock = std::chrono::steady_clock;

  explicit RankMeter(int world_size) : sent(world_size), ended_(since_epoch(Clock::now())) {}

  // `busy_since`: since when the replica has had steps in flight without a break. Waiting before that is not counted.
  void begin_step(Clock::time_point busy_since, int64_t tokens) {
    begin_ = Clock::now();
    begun_ = since_epoch(begin_);
    const Clock::time_point free_since = end_ > busy_since ? end_ : busy_since;
    if (begin_ > free_since) add(idle_, nanoseconds(begin_ - free_since));
    others_ = not_computing();
    tokens_of_step_ = tokens;
  }
  void end_step() {
    end_ = Clock::now();
    ended_ = since_epoch(end_);
    begun_ = 0;
    add(compute_, nanoseconds(end_ - begin_) - (not_computing() - others_));
    add(tokens_, tokens_of_step_);
    add(steps_, 1);
  }
  // In the middle of a step: something that the step needs was not there yet.
  void waited(Clock::duration time) { add(idle_, nanoseconds(time)); }

  RankStats stats(int rank, const Coordinates& at) const {
    const int64_t now = since_epoch(Clock::now());
    const int64_t begun = begun_;
    return {.rank = rank,
            .at = at,
            .steps = steps_,
            .compute_seconds = seconds(compute_),
            .communication_seconds = seconds(communication.nanoseconds),
            .stage_seconds = seconds(stage.nanoseconds),
            .idle_seconds = seconds(idle_),
            .tokens = tokens_,
            .sent_bytes = sent.read(),
            .last_step_age_seconds = seconds(now - ended_),
            .in_step_seconds = begun > 0 ? seconds(now - begun) : 0.0,
            .waiting = communication.inside || stage.inside,
            .failed = false};
  }

  CommMeter communication;  // in groups of one stage
  CommMeter stage;          // with other stages
  SentBytes sent;

 private:
  static int64_t nanoseconds(Clock::duration time) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  }
  static int64_t since_epoch(Clock::time_point time) { return nanoseconds(time.time_since_epoch()); }
  static double seconds(int64_t nanoseconds) { return static_cast<double>(nanoseconds) * 1e-9; }
  static void add(std::atomic<int64_t>& sum, int64_t term) {
    sum.store(sum.load(std::memory_order_relaxed) + term, std::memory_order_relaxed);
  }
  int64_t not_computing() const { return communication.nanoseconds + stage.nanoseconds + idle_; }

  Clock::time_point begin_, end_;
  int64_t others_ = 0, tokens_of_step_ = 0;
  std::atomic<int64_t> begun_{0},
      ended_;  // nanoseconds of the clock; of a step that has not ended, of the last that has
  std::atomic<int64_t> steps_{0}, tokens_{0}, compute_{0}, idle_{0};
};

}  // namespace shoal
