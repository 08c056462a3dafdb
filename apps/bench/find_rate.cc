// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/find_rate.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <sstream>

#include "base/error.h"
#include "base/json_file.h"

namespace shoal::bench {

std::vector<Bound> parse_bounds(const std::string& text) {
  std::vector<Bound> bounds;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    const size_t sign = part.find_first_of("<>");
    const auto wrong = [&] {
      return Error(ErrorKind::kInvalid,
                   fmt::format("--find-rate has {}, must be bounds such as p99_ttft_ms<=500, with commas between",
                               printable(part, 60)));
    };
    if (sign == std::string::npos || sign == 0) throw wrong();
    const size_t start = sign + (part[sign + 1] == '=' ? 2 : 1);
    std::string key = part.substr(0, sign);
    while (key.ends_with(' ')) key.pop_back();
    while (key.starts_with(' ')) key.erase(0, 1);
    char* end = nullptr;
    const std::string number = part.substr(start);
    const double value = std::strtod(number.c_str(), &end);
    while (*end == ' ') ++end;
    if (end == number.c_str() || *end != 0 || !std::isfinite(value) || key.empty()) throw wrong();
    bounds.push_back({.key = key, .at_most = part[sign] == '<', .value = value});
  }
  if (bounds.empty()) throw Error(ErrorKind::kInvalid, "--find-rate needs a bound, such as p99_ttft_ms<=500");
  return bounds;
}

bool keeps(const nlohmann::ordered_json& report, const std::vector<Bound>& bounds) {
  bool all = report.value("failed", 0) == 0;
  for (const Bound& bound : bounds) {
    const auto found = report.find(bound.key);
    if (found == report.end() || !found->is_number())
      throw Error(ErrorKind::kInvalid,
                  fmt::format("--find-rate: the report has no figure {}; see --percentile-metrics and "
                              "--metric-percentiles",
                              printable(bound.key, 60)));
    const double value = found->get<double>();
    all = all && (bound.at_most ? value <= bound.value : value >= bound.value);
  }
  return all;
}

double find_rate(const RateSearch& search, const std::function<bool(double rate)>& try_rate) {
  if (try_rate(search.high)) return search.high;
  double bad = search.high, good = 0;
  double rate = search.high;
  while (good == 0) {
    rate /= 2;
    if (rate < search.lowest) return 0;
    if (try_rate(rate)) good = rate;
    if (good == 0) bad = rate;
  }
  while (bad / good > 1 + search.precision) {
    rate = std::sqrt(bad * good);
    (try_rate(rate) ? good : bad) = rate;
  }
  return good;
}

}  // namespace shoal::bench
