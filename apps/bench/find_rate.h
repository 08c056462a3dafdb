// SPDX-License-Identifier: Apache-2.0
// --find-rate "p99_ttft_ms<=500,p99_itl_ms<=50": the highest request rate at which a run keeps all bounds.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace shoal::bench {

struct Bound {
  std::string key;  // of the report
  bool at_most = true;
  double value = 0;
};
// Error with what is wrong.
std::vector<Bound> parse_bounds(const std::string& text);
// Whether a report keeps them all, without a failed request. Error for a key that the report has not.
bool keeps(const nlohmann::ordered_json& report, const std::vector<Bound>& bounds);

// `try_rate` runs at a rate and says whether it was kept. From a rate that is kept by nobody's promise: `high` is tried first, then the
// range is halved (in logarithm) until it is narrower than `precision`. 0: not even the lowest was kept.
struct RateSearch {
  double high = 0;
  double lowest = 0;
  double precision = 0.05;
};
double find_rate(const RateSearch& search, const std::function<bool(double rate)>& try_rate);

}  // namespace shoal::bench
