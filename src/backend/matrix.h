// SPDX-License-Identifier: Apache-2.0
// Matrix: a weight in the backend's own packed layout, [out, in] in the checkpoint's sense (y = W x). Filled row by row while a
// checkpoint is read (model/weights.h), then only handed back to ops. Cheap to copy (shares the memory).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "tensor/dim.h"
#include "tensor/dtype.h"

namespace shoal {

enum class MatrixKind : uint8_t {
  kColumn,  // one sequential chain over `in` per output
  kGateUp,  // column; rows [0, out/2) are the gate, [out/2, out) the up projection of a gated FFN; ops use both together
  kRow,     // `in` is a slice of a whole K, summed as the contract's eighths (docs/architecture.md section 4, rule 1)
};

struct MatrixSpec {
  int64_t out = 0;
  int64_t in = 0;  // this rank's slice
  MatrixKind kind = MatrixKind::kColumn;
  DType dtype = DType::kBF16;  // kF32 or kBF16: what products are computed from
  // kRow: the slice's place in the whole K. Segment i of the whole is [floor(i*K/8), floor((i+1)*K/8)); the slice is summed segment
  // by segment (cut where the slice cuts them), each zero-padded by itself, added as a binary tree (split at bit_ceil(n)/2).
  Range k_slice{};
  int64_t k_total = 0;
  bool operator==(const MatrixSpec&) const = default;
};

// Rows in host memory, such as a mapped file: row-major, each of them contiguous, of any alignment.
struct HostRows {
  const std::byte* data = nullptr;
  int64_t stride = 0;  // bytes from row to row
  DType dtype = DType::kF32;

  // Element i of row r, f32 or bf16.
  float at(int64_t r, int64_t i) const {
    const auto size = static_cast<int64_t>(dtype_bytes(dtype));
    uint32_t bits = 0;
    std::memcpy(&bits, data + r * stride + i * size, static_cast<size_t>(size));
    return std::bit_cast<float>(dtype == DType::kBF16 ? bits << 16 : bits);
  }
  static HostRows of(std::span<const float> values, int64_t row_elements) {
    return {std::as_bytes(values).data(), row_elements * static_cast<int64_t>(sizeof(float)), DType::kF32};
  }
};

class Matrix {
 public:
  // Backend's own data; null for an undefined matrix.
  struct Storage {
    virtual ~Storage() = default;
    MatrixSpec spec;
    int64_t bytes = 0;  // as allocated
  };
  Matrix() = default;
  explicit Matrix(std::shared_ptr<Storage> storage) : storage_(std::move(storage)) {}
  bool defined() const { return storage_ != nullptr; }
  const MatrixSpec& spec() const { return storage_->spec; }
  int64_t out() const { return storage_->spec.out; }
  int64_t in() const { return storage_->spec.in; }
  int64_t bytes() const { return storage_->bytes; }
  Storage* storage() const { return storage_.get(); }

 private:
  std::shared_ptr<Storage> storage_;
};

}  // namespace shoal
