// SPDX-License-Identifier: Apache-2.0
// SampleEvents: what is worth telling of what happened from one sample to the next: experts that moved, and requests that were refused (at
// most once in ten seconds). Used by one thread.
#pragma once

#include <vector>

#include "server/history.h"
#include "server/sample.h"

namespace shoal {

class SampleEvents {
 public:
  std::vector<Event> between(const Sample& before, const Sample& now);

 private:
  std::optional<Event> refusals(const Sample& now);
  double told_refusals_at_ = 0;
  int64_t told_refusals_ = 0;
};

// Picks of each EP rank if every expert's are shared evenly among its slots.
std::vector<double> expected_loads(const std::vector<int32_t>& slots, const std::vector<double>& by_expert, int64_t ep);

}  // namespace shoal
