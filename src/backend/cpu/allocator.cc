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
constexpr size_t kSpareBytes =
    size_t{4} << 20;  // that may be kept beyond the most in use, so that small blocks are never given up

// Block sizes grow by a quarter of a power of two, so that tensors of slightly different batches share blocks.
size_t block_size(size_t bytes) {
  const size_t least = std::max(bytes, size_t{256});
  const size_t step = std::bit_floor(least) / 4;
  return (least + step - 1) / step * step;
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
    for (void* block : blocks) free_block(block, bytes);
  }
}

void* Allocator::new_block(size_t bytes) const {
  const size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  if (reserve_only_ && alignment == kHugePage) {
    void* block = mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED) throw std::bad_alloc();
    return block;
  }
  void* block = std::aligned_alloc(alignment, rounded);
  if (!block) throw std::bad_alloc();
  if (alignment == kHugePage) madvise(block, rounded, MADV_HUGEPAGE);  // advice: may be refused
  return block;
}

void Allocator::free_block(void* block, size_t bytes) const {
  if (reserve_only_ && bytes >= kHugePage) {
    munmap(block, (bytes + kHugePage - 1) / kHugePage * kHugePage);
  } else {
    std::free(block);
  }
}

// Gives the largest blocks up that are not in use, until `bytes` more are within what may be held.
void Allocator::make_room(size_t bytes) {
  while (cached_ > 0 && used_ + cached_ + bytes > std::max(most_used_, used_ + bytes) + kSpareBytes) {
    auto largest = std::prev(free_.end());
    while (largest->second.empty()) --largest;
    free_block(largest->second.back(), largest->first);
    largest->second.pop_back();
    cached_ -= largest->first;
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
      cached_ -= size;
    } else {
      make_room(size);
    }
    used_ += size;
    most_used_ = std::max(most_used_, used_);
  }
  if (!block) block = new_block(size);
  meter_->add(static_cast<int64_t>(size));
  return {block, [self = shared_from_this(), size](void* released) { self->release(released, size); }};
}

void Allocator::release(void* block, size_t bytes) {
  meter_->remove(static_cast<int64_t>(bytes));
  const std::lock_guard lock(mutex_);
  free_[bytes].push_back(block);
  used_ -= bytes;
  cached_ += bytes;
}

size_t Allocator::cached_bytes() const {
  const std::lock_guard lock(mutex_);
  size_t total = 0;
  for (const auto& [bytes, blocks] : free_) total += bytes * blocks.size();
  return total;
}

std::shared_ptr<std::byte> Arena::allocate(size_t bytes) {
  const size_t size = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  if (size > kChunkBytes / 4) return counted(map_chunk(size), size);
  const std::lock_guard lock(mutex_);
  if (!chunk_ || used_ + size > kChunkBytes) {
    chunk_ = map_chunk(kChunkBytes);
    used_ = 0;
  }
  const std::shared_ptr<std::byte> memory(chunk_, chunk_.get() + used_);
  used_ += size;
  return counted(memory, size);
}

std::shared_ptr<std::byte> Arena::counted(const std::shared_ptr<std::byte>& memory, size_t bytes) const {
  meter_->add(static_cast<int64_t>(bytes));
  return {memory.get(), [memory, meter = meter_, bytes](std::byte*) { meter->remove(static_cast<int64_t>(bytes)); }};
}

}  // namespace shoal
