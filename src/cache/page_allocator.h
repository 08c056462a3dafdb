// SPDX-License-Identifier: Apache-2.0
// PageAllocator: which page ids of one space (kv_pools.h) are free. Used by the scheduler's thread only.
// Invariants: a page is free or has one owner; used + free == total. Pages come out lowest first and the last released again first, so
// that memory which was never needed is never touched.
// Not here: which sequence owns what, and reuse of prefixes (kv_cache.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace shoal {

class PageAllocator {
 public:
  PageAllocator(int64_t pages, int64_t tokens_per_block);

  int64_t tokens_per_block() const { return tokens_per_block_; }
  int64_t total_pages() const { return static_cast<int64_t>(owned_.size()); }
  int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }
  int64_t used_pages() const { return total_pages() - free_pages(); }
  // Pages that `tokens` positions of one sequence take.
  int64_t pages_for(int64_t tokens) const { return (tokens + tokens_per_block_ - 1) / tokens_per_block_; }

  // `count` pages, or none of them if fewer are free.
  bool allocate(int64_t count, std::vector<int32_t>& pages);
  void release(std::span<const int32_t> pages);

 private:
  int64_t tokens_per_block_;
  std::vector<int32_t> free_;  // the next one at the back
  std::vector<bool> owned_;
};

}  // namespace shoal
