// SPDX-License-Identifier: Apache-2.0
// PageShare: the pages of a sequence's KV cache that one context-parallel rank holds: page b is on rank b mod ranks. Its pages, one after
// the other, make a shorter sequence of *held* positions, in the order of the whole one.
// Worked example: pages of 4 positions, 2 ranks; rank 1 holds positions 4 to 7 and 12 to 15, which are its held positions 0 to 7.
// Not here: which memory a page lies in (a cache's matter).
#pragma once

#include <algorithm>
#include <cstdint>

namespace shoal {

struct PageShare {
  int64_t rank = 0;
  int64_t ranks = 1;

  bool holds_page(int64_t page) const { return page % ranks == rank; }
  // How many of the first `pages` pages it holds.
  int64_t pages_before(int64_t pages) const { return pages > rank ? (pages - rank - 1) / ranks + 1 : 0; }
  // How many of the first `positions` positions it holds: where a position lies among the held ones.
  int64_t held_before(int64_t positions, int64_t tokens_per_block) const {
    const int64_t round = ranks * tokens_per_block;
    const int64_t own = positions % round - rank * tokens_per_block;
    return positions / round * tokens_per_block + std::clamp<int64_t>(own, 0, tokens_per_block);
  }
  friend bool operator==(const PageShare&, const PageShare&) = default;
};

}  // namespace shoal
