// SPDX-License-Identifier: Apache-2.0
// BlockTable: the KV pages of one sequence, in the order of its positions. Page i holds positions [i * tokens_per_block, ...).
// Invariant: a table gives back to the allocator exactly what it took from it, at the latest when it is destroyed.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "cache/page_allocator.h"

namespace shoal {

class BlockTable {
 public:
  BlockTable() = default;
  ~BlockTable() { clear(); }
  BlockTable(BlockTable&& other) noexcept
      : allocator_(std::exchange(other.allocator_, nullptr)), pages_(std::exchange(other.pages_, {})) {}
  BlockTable& operator=(BlockTable&&) = delete;

  // Room for positions [0, tokens); false, and nothing taken, if there are not pages enough. One allocator for a table's whole life.
  bool reserve(PageAllocator& allocator, int64_t tokens) {
    const int64_t missing = allocator.pages_for(tokens) - static_cast<int64_t>(pages_.size());
    if (missing > 0 && !allocator.allocate(missing, pages_)) return false;
    allocator_ = &allocator;
    return true;
  }
  void clear() {
    if (allocator_) allocator_->release(pages_);
    allocator_ = nullptr;
    pages_.clear();
  }

  const std::vector<int32_t>& pages() const { return pages_; }
  // Where the position's K and V go: page * tokens_per_block + offset.
  int32_t slot(int64_t position) const {
    const int64_t size = allocator_->tokens_per_block();
    return static_cast<int32_t>(pages_[position / size] * size + position % size);
  }

 private:
  PageAllocator* allocator_ = nullptr;
  std::vector<int32_t> pages_;
};

}  // namespace shoal
