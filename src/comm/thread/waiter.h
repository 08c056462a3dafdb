// SPDX-License-Identifier: Apache-2.0
// Waiter: the waits of one operation of one rank. Spins briefly if there is a core for everyone, then yields, then parks in the kernel,
// so that waiting ranks leave the cores to those that compute. All waits of the operation share one deadline.
#pragma once

#include <chrono>
#include <string>

#include "comm/thread/world_state.h"

namespace shoal {

class Waiter {
 public:
  // `rank` is the world's. Throws if the world has failed; from here on the rank is seen in the operation.
  Waiter(WorldState& world, GroupState& group, int rank, const Activity& activity);
  ~Waiter();
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  // Until `progress`, which world rank `owner` advances, has reached `target`. Throws CommError when that can no longer happen or takes
  // too long; a failure found here is the world's.
  void wait(Progress& progress, uint64_t target, int owner);
  // From here on, the waits are for the others to finish reading.
  void now_awaits_readers();
  void throw_if_failed() const;
  // Ends the world with a failure that this operation found; throws.
  [[noreturn]] void fail(const std::string& what) const;

 private:
  using Clock = std::chrono::steady_clock;
  bool yield_until(const Progress& progress, uint64_t target, int owner);
  void park_until(Progress& progress, uint64_t target, int owner);
  void check_owner(const Progress& progress, uint64_t target, int owner) const;
  [[noreturn]] void time_out() const;
  std::string label() const;

  WorldState& world_;
  GroupState& group_;
  const int rank_;
  Activity activity_;
  int spins_ = 0;
  Clock::time_point start_{};  // of the first wait that did more than spin
};

}  // namespace shoal
