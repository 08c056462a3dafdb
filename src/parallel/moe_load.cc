// SPDX-License-Identifier: Apache-2.0
#include "parallel/moe_load.h"

#include <algorithm>
#include <cmath>

namespace shoal {
namespace {

constexpr double kUneven = 1.25;
constexpr int64_t kSpare = 16;

}  // namespace

MoeLoad moe_load_bound(int64_t tokens, int64_t top_k, int64_t ep, int64_t slots_per_rank) {
  const auto allowed = [](double share) { return static_cast<int64_t>(std::ceil(kUneven * share)) + kSpare; };
  const auto all = static_cast<double>(tokens), k = static_cast<double>(top_k), ranks = static_cast<double>(ep);
  const double reached = 1.0 - std::pow(1.0 - 1.0 / ranks, k);  // share of the tokens with a pick on a given rank
  const int64_t rows = std::min(tokens, allowed(all * reached));
  return {.rows = rows, .picks = std::min(rows * std::min(top_k, slots_per_rank), allowed(all * k / ranks))};
}

}  // namespace shoal
