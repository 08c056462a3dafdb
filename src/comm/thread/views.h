// SPDX-License-Identifier: Apache-2.0
// View: rows of bytes in some thread's memory, and the copies and sums that a transfer is made of. Valid only while its owner is inside
// the operation that published it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/raw.h"

namespace shoal {

struct View {
  std::byte* data = nullptr;
  int64_t rows = 0;
  int64_t row_bytes = 0;
  int64_t stride = 0;  // bytes from row to row
  DType dtype = DType::kF32;

  static View of(const Tensor& tensor);
  int64_t bytes() const { return rows * row_bytes; }
  int64_t floats() const { return bytes() / static_cast<int64_t>(sizeof(float)); }
  bool contiguous() const { return stride == row_bytes || rows <= 1; }
  View slice(int64_t begin, int64_t count) const;
};

// Copies all rows of `from` to `to`; equal rows and row_bytes. Nothing to do where they are the same memory.
void copy_rows(const View& from, const View& to);
// Copies rows indices[k] of `from` to row k of `to`.
void gather_rows(const View& from, std::span<const int32_t> indices, const View& to);

// Elements [begin, end) of the tree sum of `terms` (equal sizes), written into each of `targets`. A target may be one of the terms.
void sum_views(std::span<const View> terms, std::span<const View> targets, int64_t begin, int64_t end);

}  // namespace shoal
