// SPDX-License-Identifier: Apache-2.0
// WorldOptions: how the ranks of a thread world wait for each other.
#pragma once

#include <chrono>

namespace shoal {

struct WorldOptions {
  // Longest wait of one operation for its peers. A dead rank is noticed at once; this is for one that neither goes on nor ends.
  std::chrono::milliseconds timeout{120'000};
  // Threads that compute or wait at the same time, all ranks together; 0: one a rank. Above the number of cores, nobody spins.
  int busy_threads = 0;
};

}  // namespace shoal
