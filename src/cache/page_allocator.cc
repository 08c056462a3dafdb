// SPDX-License-Identifier: Apache-2.0
#include "cache/page_allocator.h"

#include <numeric>

#include "base/error.h"

namespace shoal {

PageAllocator::PageAllocator(int64_t pages, int64_t tokens_per_block)
    : tokens_per_block_(tokens_per_block), free_(pages), owned_(pages, false) {
  CHECK_GT(tokens_per_block, 0);
  std::iota(free_.rbegin(), free_.rend(), 0);
}

bool PageAllocator::allocate(int64_t count, std::vector<int32_t>& pages) {
  CHECK_GE(count, 0);
  if (count > free_pages()) return false;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t page = free_.back();
    free_.pop_back();
    owned_[page] = true;
    pages.push_back(page);
  }
  return true;
}

void PageAllocator::release(std::span<const int32_t> pages) {
  for (auto page = pages.rbegin(); page != pages.rend(); ++page) {
    CHECK(*page >= 0 && *page < total_pages() && owned_[*page]);
    owned_[*page] = false;
    free_.push_back(*page);
  }
}

}  // namespace shoal
