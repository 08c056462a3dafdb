// SPDX-License-Identifier: Apache-2.0
// GemmRunner: runs products over a rank's threads. Results do not depend on how they are shared out.
#pragma once

#include <memory>
#include <span>

#include "backend/cpu/allocator.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/matrix_packed.h"
#include "backend/cpu/thread_pool.h"

namespace shoal {

const GemmKernels& gemm_kernels(Isa isa);

// f32 rows: row r is data + index[r] * stride (index null: r), times scales[r] (null: 1).
struct RowSource {
  const float* data = nullptr;
  int64_t rows = 0;
  int64_t stride = 0;
  const int32_t* index = nullptr;
  const float* scales = nullptr;
};

// Rows as products with a certain matrix take them; without memory of their own where the source serves.
struct PackedRows {
  std::shared_ptr<void> memory;
  const uint32_t* data = nullptr;
  int64_t stride = 0;  // words
};

struct GemmRunner {
  const GemmKernels& kernels;
  ThreadPool& pool;
  Allocator& allocator;

  // All products, shared out by estimated cost; small ones stay on the caller. Returns when all are done.
  void run(std::span<const GemmProduct> products) const;
  // Rows for `w` or any matrix of the same spec. An f32 source is served as it is, and so takes an index only together with scales.
  PackedRows pack(const RowSource& x, const PackedMatrix& w) const;
};

}  // namespace shoal
