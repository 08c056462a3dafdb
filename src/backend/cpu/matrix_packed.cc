// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/matrix_packed.h"

#include <algorithm>
#include <bit>
#include <string>

#include "base/error.h"
#include "base/whole.h"

namespace shoal {
namespace {

constexpr int kEighths = 8;

void check_spec(const MatrixSpec& spec) {
  CHECK_GE(spec.out, 0);
  CHECK_GE(spec.in, 0);
  CHECK(spec.dtype == DType::kF32 || spec.dtype == DType::kBF16);
  if (spec.kind == MatrixKind::kGateUp) CHECK_EQ(spec.out % 2, 0);
  if (spec.kind != MatrixKind::kRow) return;
  CHECK_EQ(spec.k_slice.size(), spec.in);
  CHECK(0 <= spec.k_slice.begin && spec.k_slice.end <= spec.k_total);
}

}  // namespace

PackedMatrix::PackedMatrix(const GemmKernels& kernels, const MatrixSpec& matrix_spec)
    : kernels_(kernels), columns_(kernels.panel_columns) {
  spec = matrix_spec;
  check_spec(spec);
  if (spec.kind == MatrixKind::kRow) {
    add_tree(0, kEighths, 0);
  } else if (spec.in > 0) {
    add_leaf({.begin = 0, .end = spec.in, .first_unit = 0}, 0);
  }
  if (steps_.empty()) steps_.push_back({});  // no k at all: the sum is 0
  bytes = ceil_div(outputs(), outputs_per_panel()) * units_ * columns_ * 4;
}

// Adds the steps that leave the sum of eighths [first, last) in `slot`; false if this slice touches none of them. Slices that own whole
// subtrees (1, 2, 4 or 8 ranks) so add exactly what one rank adds there.
bool PackedMatrix::add_tree(int first, int last, int slot) {
  if (last - first == 1) {
    const int64_t begin = std::max(first * spec.k_total / kEighths, spec.k_slice.begin);
    const int64_t end = std::min(last * spec.k_total / kEighths, spec.k_slice.end);
    if (begin >= end) return false;
    const int64_t origin = spec.k_slice.begin;
    add_leaf({.begin = begin - origin, .end = end - origin, .first_unit = units_}, slot);
    return true;
  }
  const int middle = (first + last) / 2;
  const bool left = add_tree(first, middle, slot);
  const bool right = add_tree(middle, last, left ? slot + 1 : slot);
  if (left && right) ++steps_.back().combines;
  return left || right;
}

void PackedMatrix::add_leaf(const GemmSegment& segment, int slot) {
  const int64_t size = segment.end - segment.begin;
  // Memory of an arena is zero where nothing was written.
  const int64_t multiple = kernels_.unit_multiple_bf16;
  const int64_t units = spec.dtype == DType::kBF16 ? ceil_div(size, 2 * multiple) * multiple : size;
  segments_.push_back(segment);
  steps_.push_back({.begin = static_cast<int32_t>(units_),
                    .end = static_cast<int32_t>(units_ + units),
                    .slot = static_cast<int16_t>(slot)});
  units_ += units;
}

void PackedMatrix::allocate(Arena& arena) { data_ = arena.allocate(static_cast<size_t>(bytes)); }

PackedPanels PackedMatrix::panels() const {
  return {.data = reinterpret_cast<const uint32_t*>(data_.get()),
          .panel_words = units_ * columns_,
          .panels = ceil_div(outputs(), outputs_per_panel()),
          .columns = outputs(),
          .bf16 = spec.dtype == DType::kBF16,
          .steps = steps_.data(),
          .step_count = static_cast<int32_t>(steps_.size())};
}

int64_t PackedMatrix::activation_words() const {
  return spec.dtype == DType::kBF16 ? units_ * kernels_.words_per_unit_bf16 : spec.in;
}

void PackedMatrix::fill_rows(int64_t row, int64_t count, HostRows values) {
  CHECK(0 <= row && row + count <= spec.out);
  CHECK(values.dtype == DType::kF32 || values.dtype == spec.dtype);
  const int64_t group = outputs_per_panel();
  while (count > 0) {
    const int64_t output = row >= outputs() ? row - outputs() : row;  // gate and up projections count from 0 each
    const int64_t n = std::min({count, group - output % group, outputs() - output});
    fill_group(row, n, values);
    row += n;
    count -= n;
    values.data += n * values.stride;
  }
}

void PackedMatrix::read_row(int64_t row, float* out) const {
  CHECK(spec.kind == MatrixKind::kColumn);
  CHECK(0 <= row && row < spec.out);
  const auto* word =
      reinterpret_cast<const uint32_t*>(data_.get()) + row / columns_ * units_ * columns_ + row % columns_;
  if (spec.dtype == DType::kF32) {
    for (int64_t k = 0; k < spec.in; ++k, word += columns_) out[k] = std::bit_cast<float>(*word);
    return;
  }
  for (int64_t k = 0; k < spec.in; k += 2, word += columns_) {
    out[k] = std::bit_cast<float>(*word << 16);
    if (k + 1 < spec.in) out[k + 1] = std::bit_cast<float>(*word & 0xffff0000u);
  }
}

void PackedMatrix::copy_bytes(const PackedMatrix& from, int64_t begin, int64_t count) {
  CHECK(spec == from.spec);
  CHECK_EQ(columns_, from.columns_);
  CHECK(0 <= begin && begin + count <= bytes);
  std::copy_n(from.data_.get() + begin, count, data_.get() + begin);
}

// Rows of one panel, all of them gate or all of them up; a few at a time over all segments, so that they are read in the order of memory.
void PackedMatrix::fill_group(int64_t row, int64_t count, const HostRows& values) {
  const bool up = row >= outputs();
  const int64_t output = up ? row - outputs() : row;
  const int64_t panel = output / outputs_per_panel();
  const int64_t column = output % outputs_per_panel() + (up ? outputs_per_panel() : 0);
  auto* target = reinterpret_cast<uint32_t*>(data_.get()) + panel * units_ * columns_ + column;
  const auto pack = values.dtype == DType::kBF16 ? kernels_.pack_bf16
                    : spec.dtype == DType::kBF16 ? kernels_.pack_f32_to_bf16
                                                 : kernels_.pack_f32;
  for (int64_t first = 0; first < count; first += kPackRows) {
    for (const GemmSegment& segment : segments_)
      pack({.rows =
                values.data + first * values.stride + segment.begin * static_cast<int64_t>(dtype_bytes(values.dtype)),
            .stride = values.stride,
            .count = std::min(kPackRows, count - first),
            .k = segment.end - segment.begin,
            .target = target + segment.first_unit * columns_ + first,
            .columns = columns_});
  }
}

}  // namespace shoal
