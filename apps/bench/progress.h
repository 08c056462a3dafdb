// SPDX-License-Identifier: Apache-2.0
// Progress of a benchmark on standard error: a bar that is redrawn on a terminal, elsewhere a line now and then.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace shoal::bench {

class ProgressBar {
 public:
  ProgressBar(std::string what, int64_t total, bool silent);
  // Ends the line when all are done.
  void update(int64_t requests, int64_t tokens);

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  int64_t total_;
  bool silent_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point drawn_ = start_;
  bool ended_ = false;
};

}  // namespace shoal::bench
