// SPDX-License-Identifier: Apache-2.0
#include "parallel/context.h"

#include <algorithm>

#include "base/error.h"
#include "base/whole.h"
#include "parallel/cuts.h"

namespace shoal {

std::array<Range, 2> zigzag_rows(int64_t n, int64_t rank, int64_t ranks) {
  return {even_part(n, rank, 2 * ranks), even_part(n, 2 * ranks - 1 - rank, 2 * ranks)};
}

std::vector<Range> page_runs(std::span<const int64_t> pages, int64_t most, int64_t ranks) {
  std::vector<Range> runs;
  int64_t total = 0, on_a_rank = 0;
  for (int64_t i = 0; i < std::ssize(pages); ++i) {
    const int64_t count = pages[static_cast<size_t>(i)], share = ceil_div(count, ranks);
    if (runs.empty() || total + count > most || on_a_rank + share > ceil_div(most, ranks)) {
      runs.push_back({i, i});
      total = on_a_rank = 0;
    }
    total += count;
    on_a_rank += share;
    runs.back().end = i + 1;
  }
  return runs;
}

std::vector<int64_t> kv_heads_of(Range heads, int64_t all, int64_t kv_heads) {
  CHECK_EQ(all % kv_heads, 0);
  const int64_t group = all / kv_heads;
  std::vector<int64_t> by_query;
  for (int64_t head = heads.begin; head < heads.end; ++head) by_query.push_back(head / group);
  std::vector<int64_t> distinct = by_query;
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  const bool equal_groups = std::all_of(distinct.begin(), distinct.end(), [&](int64_t kv_head) {
    return std::count(by_query.begin(), by_query.end(), kv_head) * std::ssize(distinct) == heads.size();
  });
  return equal_groups ? distinct : by_query;
}

}  // namespace shoal
