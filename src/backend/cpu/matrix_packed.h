// SPDX-License-Identifier: Apache-2.0
// PackedMatrix: a Matrix as the kernels of one instruction-set path want it (gemm.h has the layout). kRow sums follow the contract's rule:
// segments of the whole K are leaves of one binary tree over eighths, of which this matrix holds those that its slice touches.
#pragma once

#include <span>
#include <vector>

#include "backend/cpu/allocator.h"
#include "backend/cpu/gemm.h"
#include "backend/matrix.h"
#include "base/error.h"

namespace shoal {

class PackedMatrix final : public Matrix::Storage {
 public:
  // Without memory: `bytes` and the plan of sums only. Throws Error for a spec that no product can have.
  PackedMatrix(const GemmKernels& kernels, const MatrixSpec& spec);
  void allocate(Arena& arena);
  // values [count, in], f32 or the matrix's own dtype; thread-safe for disjoint rows.
  void fill_rows(int64_t row, int64_t count, HostRows values);
  // Row of a kColumn matrix, f32 [in].
  void read_row(int64_t row, float* out) const;
  // Bytes [begin, begin + count) of another of the same spec and kernels.
  void copy_bytes(const PackedMatrix& from, int64_t begin, int64_t count);

  PackedPanels panels() const;
  std::span<const GemmSegment> segments() const { return segments_; }
  // Words of an activation row in the form that products take.
  int64_t activation_words() const;

 private:
  bool add_tree(int first, int last, int slot);
  void add_leaf(const GemmSegment& segment, int slot);
  void fill_group(int64_t row, int64_t count, const HostRows& values);
  int64_t outputs() const { return spec.kind == MatrixKind::kGateUp ? spec.out / 2 : spec.out; }
  int64_t outputs_per_panel() const { return spec.kind == MatrixKind::kGateUp ? columns_ / 2 : columns_; }

  const GemmKernels& kernels_;
  int64_t columns_;  // of a panel
  int64_t units_ = 0;
  std::vector<GemmSegment> segments_;
  std::vector<GemmStep> steps_;
  std::shared_ptr<std::byte> data_;
};

// Of a defined matrix that the CPU backend made.
inline const PackedMatrix& packed(const Matrix& w) {
  CHECK(w.defined());
  return static_cast<const PackedMatrix&>(*w.storage());
}

}  // namespace shoal
