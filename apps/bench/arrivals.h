// SPDX-License-Identifier: Apache-2.0
// When the requests of a run are due: gamma-distributed gaps (Poisson arrivals where burstiness is 1), or a rate that rises.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace shoal::bench {

struct ArrivalOptions {
  double request_rate = std::numeric_limits<double>::infinity();  // a second; infinite: all at once
  double burstiness = 1;         // shape of the gaps' gamma distribution; infinite: even gaps
  std::string ramp_up_strategy;  // linear, exponential; empty: the rate is constant
  double ramp_up_start_rps = 0;
  double ramp_up_end_rps = 0;
  uint64_t seed = 0;
};

std::vector<std::string> arrival_problems(const ArrivalOptions& options);

// Seconds since the start, ascending. At a constant rate they are scaled so that the last is due at count / rate exactly.
std::vector<double> arrival_times(const ArrivalOptions& options, int64_t count);

}  // namespace shoal::bench
