// SPDX-License-Identifier: Apache-2.0
// Tensor: a typed, shaped view of device memory, cheap to copy (it shares the memory). Elements of one row (all dimensions but the
// first) lie together; rows may be further apart than that (`row_stride`), which makes a range of columns a view.
// Not here: memory itself (a Backend allocates it) and arithmetic (backend/ops.h). Only backends and transports see raw pointers,
// through tensor/raw.h.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>

#include "base/error.h"
#include "tensor/dtype.h"

namespace shoal {

// One to four sizes, outermost first.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) {
    CHECK_LE(sizes.size(), 4u);
    for (const int64_t size : sizes) sizes_[rank_++] = size;
  }
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return sizes_[i]; }
  int64_t elements() const {
    int64_t product = rank_ ? 1 : 0;
    for (int i = 0; i < rank_; ++i) product *= sizes_[i];
    return product;
  }
  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<int64_t, 4> sizes_{};
  int rank_ = 0;
};

class Tensor {
 public:
  Tensor() = default;
  // Contiguous tensor over `memory`, which it keeps alive.
  Tensor(DType dtype, const Shape& shape, std::shared_ptr<void> memory)
      : memory_(std::move(memory)), shape_(shape), row_stride_(row_elements_of(shape)), dtype_(dtype) {}

  bool defined() const { return shape_.rank() > 0; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t size(int i) const { return shape_[i]; }
  int64_t rows() const { return shape_[0]; }
  int64_t row_elements() const { return row_elements_of(shape_); }
  int64_t elements() const { return shape_.elements(); }
  int64_t bytes() const { return elements() * static_cast<int64_t>(dtype_bytes(dtype_)); }
  // Elements from the start of one row to the start of the next.
  int64_t row_stride() const { return row_stride_; }
  bool contiguous() const { return row_stride_ == row_elements() || rows() <= 1; }

  // Rows [begin, end), sharing memory.
  Tensor slice_rows(int64_t begin, int64_t end) const {
    CHECK(0 <= begin && begin <= end && end <= rows());
    Tensor view = *this;
    view.shape_ = with_rows(end - begin);
    view.offset_ += begin * row_stride_;
    return view;
  }
  // Columns [begin, end) of a [rows, columns] tensor, sharing memory.
  Tensor slice_columns(int64_t begin, int64_t end) const {
    CHECK_EQ(shape_.rank(), 2);
    CHECK(0 <= begin && begin <= end && end <= shape_[1]);
    Tensor view = *this;
    view.shape_ = Shape{rows(), end - begin};
    view.offset_ += begin;
    return view;
  }
  // Same rows, other division of each row: [tokens, heads * head_dim] <-> [tokens, heads, head_dim].
  Tensor view(const Shape& shape) const {
    CHECK_EQ(shape.elements(), elements());
    if (!contiguous()) CHECK_EQ(shape[0], rows());
    Tensor result = *this;
    result.shape_ = shape;
    if (contiguous()) result.row_stride_ = row_elements_of(shape);
    return result;
  }

 private:
  friend struct RawAccess;
  static int64_t row_elements_of(const Shape& shape) {
    int64_t product = 1;
    for (int i = 1; i < shape.rank(); ++i) product *= shape[i];
    return product;
  }
  Shape with_rows(int64_t rows) const {
    switch (shape_.rank()) {
      case 1:
        return {rows};
      case 2:
        return {rows, shape_[1]};
      case 3:
        return {rows, shape_[1], shape_[2]};
      default:
        return {rows, shape_[1], shape_[2], shape_[3]};
    }
  }

  std::shared_ptr<void> memory_;
  Shape shape_;
  int64_t offset_ = 0;      // elements
  int64_t row_stride_ = 0;  // elements
  DType dtype_ = DType::kF32;
};

}  // namespace shoal
