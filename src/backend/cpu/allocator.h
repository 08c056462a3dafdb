// SPDX-License-Identifier: Apache-2.0
// Memory of one rank, counted by its meter. Allocator: blocks for tensors, kept when released and handed out again; released from any
// thread, also after the backend is gone; it never holds more than the most that was in use at a time, and a little. Arena: zero-filled memory for matrices, one after another in large pages, given back
// when the last of them is gone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "backend/memory_meter.h"

namespace shoal {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;

class Allocator : public std::enable_shared_from_this<Allocator> {
 public:
  // `reserve_only`: memory that is never touched takes none.
  explicit Allocator(std::shared_ptr<MemoryMeter> meter = std::make_shared<MemoryMeter>(), bool reserve_only = false)
      : meter_(std::move(meter)), reserve_only_(reserve_only) {}
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  // At least `bytes`, aligned to a cache line, contents undefined.
  std::shared_ptr<void> allocate(size_t bytes);
  size_t cached_bytes() const;

 private:
  void release(void* block, size_t bytes);
  void* new_block(size_t bytes) const;
  void free_block(void* block, size_t bytes) const;
  void make_room(size_t bytes);

  const std::shared_ptr<MemoryMeter> meter_;
  const bool reserve_only_;
  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;  // by block size
  size_t used_ = 0, most_used_ = 0, cached_ = 0;
};

class Arena {
 public:
  explicit Arena(std::shared_ptr<MemoryMeter> meter = std::make_shared<MemoryMeter>()) : meter_(std::move(meter)) {}
  // Zero-filled, aligned to a cache line; a page is backed by memory when it is first touched.
  std::shared_ptr<std::byte> allocate(size_t bytes);

 private:
  std::shared_ptr<std::byte> counted(const std::shared_ptr<std::byte>& memory, size_t bytes) const;

  const std::shared_ptr<MemoryMeter> meter_;
  std::mutex mutex_;
  std::shared_ptr<std::byte> chunk_;
  size_t used_ = 0;
};

}  // namespace shoal
