// SPDX-License-Identifier: Apache-2.0
// Values of one stored matrix as float32, exactly: every encoding below is a subset of float32 times a scale.
// Trusts its arguments: model/checkpoint.cc checks shapes, sizes and types first. No allocation, no state: callable
// from many threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dim.h"

namespace shoal {

enum class Encoding : uint8_t { kF32, kF16, kBF16, kF8E4M3, kMxfp4 };

// Values per MXFP4 block, and the bytes that hold them, two to a byte, the lower nibble first.
inline constexpr int64_t kMxBlock = 32;
inline constexpr int64_t kMxBlockBytes = 16;

// A row-major matrix as it lies in a file; pointers need no alignment.
struct StoredMatrix {
  Encoding encoding = Encoding::kF32;
  int64_t columns = 0;
  const std::byte* values = nullptr;  // kMxfp4: [rows, columns / 32, 16]
  // kF8E4M3: f32 or bf16 [ceil(rows / block_rows), ceil(columns / block_columns)], factors of the values.
  // kMxfp4: u8 [rows, columns / 32], E8M0: factor 2^(byte - 127), 255 is NaN (OCP Microscaling Formats 1.0,
  // section 5.4.1).
  const std::byte* scales = nullptr;
  bool bf16_scales = false;
  int64_t block_rows = 0;
  int64_t block_columns = 0;
};

// Logical index i is stored index begin + i * step.
struct StridedRange {
  int64_t begin = 0;
  int64_t step = 1;
  int64_t count = 0;
};

// Stored [rows.count, columns.size()] -> out, row by row.
void read_stored(const StoredMatrix& matrix, StridedRange rows, Range columns, std::span<float> out);
// The transpose: out row i is stored column columns.begin + i * columns.step, cut to the stored rows `rows`.
void read_stored_transposed(const StoredMatrix& matrix, StridedRange columns, Range rows, std::span<float> out);

}  // namespace shoal
