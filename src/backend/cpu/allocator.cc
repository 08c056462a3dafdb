// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>

#include "base/error.h"

namespace shoal {
namespace {

constexpr size_t kChunkBytes = size_t{64} << 20;

// Block sizes grow by a quarter of a power of two, so that tensors of slightly different batches share blocks.
size_t block_size(size_t bytes) {
  const size_t least = std::max(bytes, size_t{256});
  const size_t step = std::bit_floor(least) / 4;
  return (least + step - 1) / step * step;
}

void* new_block(size_t bytes) {
  const size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* block = std::aligned_alloc(alignment, rounded);
  if (!block) throw std::bad_alloc();
  if (alignment == kHugePage) madvise(block, rounded, MADV_HUGEPAGE);  // advice: may be refused
  return block;
}

// Zero-filled address space from the kernel, aligned to a large page.
std::shared_ptr<std::byte> map_chunk(size_t bytes) {
  const size_t size = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  const size_t reserved = size + kHugePage;
  void* base = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  const auto address = reinterpret_cast<uintptr_t>(base);
  auto* aligned = reinterpret_cast<std::byte*>((address + kHugePage - 1) / kHugePage * kHugePage);
  madvise(aligned, size, MADV_HUGEPAGE);
  return {aligned, [base, reserved](std::byte*) { munmap(base, reserved); }};
}

}  // namespace

Allocator::~Allocator() {
  for (auto& [bytes, blocks] : free_) {
    for (void* block : blocks) std::free(block);
  }
}

std::shared_ptr<void> Allocator::allocate(size_t bytes) {
  const size_t size = block_size(bytes);
  void* block = nullptr;
  {
    const std::lock_guard lock(mutex_);
    std::vector<void*>& blocks = free_[size];
    if (!blocks.empty()) {
      block = blocks.back();
      blocks.pop_back();
    }
  }
  if (!block) block = new_block(size);
  return {block, [self = shared_from_this(), size](void* released) { self->release(released, size); }};
}

void Allocator::release(void* block, size_t bytes) {
  const std::lock_guard lock(mutex_);
  free_[bytes].push_back(block);
}

size_t Allocator::cached_bytes() const {
  const std::lock_guard lock(mutex_);
  size_t total = 0;
  for (const auto& [bytes, blocks] : free_) total += bytes * blocks.size();
  return total;
}

std::shared_ptr<std::byte> Arena::allocate(size_t bytes) {
  const size_t size = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  if (size > kChunkBytes / 4) return map_chunk(size);
  const std::lock_guard lock(mutex_);
  if (!chunk_ || used_ + size > kChunkBytes) {
    chunk_ = map_chunk(kChunkBytes);
    used_ = 0;
  }
  std::shared_ptr<std::byte> memory(chunk_, chunk_.get() + used_);
  used_ += size;
  return memory;
}

}  // namespace shoal
