// SPDX-License-Identifier: Apache-2.0
// Memory of one rank. Allocator: blocks for tensors, kept when released and handed out again; released from any thread,
// also after the backend is gone. Arena: zero-filled memory for matrices, one after another in large pages, given back
// when the last of them is gone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace shoal {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;

class Allocator : public std::enable_shared_from_this<Allocator> {
 public:
  Allocator() = default;
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  // At least `bytes`, aligned to a cache line, contents undefined.
  std::shared_ptr<void> allocate(size_t bytes);
  size_t cached_bytes() const;

 private:
  void release(void* block, size_t bytes);

  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;  // by block size
};

class Arena {
 public:
  // Zero-filled, aligned to a cache line; a page is backed by memory when it is first touched.
  std::shared_ptr<std::byte> allocate(size_t bytes);

 private:
  std::mutex mutex_;
  std::shared_ptr<std::byte> chunk_;
  size_t used_ = 0;
};

}  // namespace shoal
