// SPDX-License-Identifier: Apache-2.0
#include "model/dequant.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "tensor/dtype.h"

namespace shoal {
namespace {

template <typename T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

void convert_bf16(const std::byte* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = std::bit_cast<float>(uint32_t{load<uint16_t>(in + 2 * i)} << 16);
}

// Same values as half_to_float, without branches, so that it vectorises. A subnormal's mantissa is put below a one at
// 2^-14 and the one subtracted again: both are normal floats, so flush-to-zero modes change nothing.
void convert_f16(const std::byte* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = load<uint16_t>(in + 2 * i);
    const uint32_t magnitude = (bits & 0x7fffu) << 13;
    const float subnormal = std::bit_cast<float>(magnitude + (113u << 23)) - std::bit_cast<float>(113u << 23);
    const uint32_t exponent_shift = magnitude >= (31u << 23) ? 224u << 23 : 112u << 23;
    const uint32_t value = magnitude < (1u << 23) ? std::bit_cast<uint32_t>(subnormal) : magnitude + exponent_shift;
    out[i] = std::bit_cast<float>(value | ((bits & 0x8000u) << 16));
  }
}

const std::array<float, 256>& f8e4m3_table() {
  static const auto values = [] {
    std::array<float, 256> table;
    for (int i = 0; i < 256; ++i) table[static_cast<size_t>(i)] = f8e4m3_to_float(static_cast<uint8_t>(i));
    return table;
  }();
  return values;
}

// E2M1 (OCP Microscaling Formats 1.0, section 5.3.3): sign, two bits of exponent, one of mantissa.
constexpr float kE2M1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                             -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

float e8m0(std::byte bits) {
  const uint32_t exponent = std::to_integer<uint32_t>(bits);
  if (exponent == 255) return std::numeric_limits<float>::quiet_NaN();
  return std::bit_cast<float>(exponent == 0 ? 0x00400000u : exponent << 23);  // 2^-127 is subnormal
}

// Columns up to the next border of a block.
int64_t until_border(int64_t column, int64_t block, int64_t end) { return std::min(end, (column / block + 1) * block); }

// A block's scale is that of the global row and column, wherever the slice begins: with blocks of 128, columns 100 to
// 300 of row 130 use the scales (1, 0) up to column 127, (1, 1) up to 255 and (1, 2) to the end.
void read_f8(const StoredMatrix& m, int64_t row, Range columns, float* out) {
  const int64_t scale_columns = (m.columns + m.block_columns - 1) / m.block_columns;
  const int64_t scale_row = row / m.block_rows * scale_columns;
  const std::byte* values = m.values + row * m.columns;
  const std::array<float, 256>& table = f8e4m3_table();
  for (int64_t c = columns.begin; c < columns.end;) {
    const int64_t border = until_border(c, m.block_columns, columns.end);
    const int64_t index = scale_row + c / m.block_columns;
    const float scale =
        m.bf16_scales ? to_float(BFloat16{load<uint16_t>(m.scales + 2 * index)}) : load<float>(m.scales + 4 * index);
    for (; c < border; ++c) *out++ = table[std::to_integer<size_t>(values[c])] * scale;
  }
}

void read_mxfp4(const StoredMatrix& m, int64_t row, Range columns, float* out) {
  const int64_t blocks = m.columns / kMxBlock;
  const std::byte* values = m.values + row * blocks * kMxBlockBytes;
  for (int64_t c = columns.begin; c < columns.end;) {
    const int64_t border = until_border(c, kMxBlock, columns.end);
    const float scale = e8m0(m.scales[row * blocks + c / kMxBlock]);
    for (; c < border; ++c) {
      const size_t pair = std::to_integer<size_t>(values[c / 2]);
      *out++ = kE2M1[(c % 2 == 0 ? pair : pair >> 4) & 0xf] * scale;
    }
  }
}

void read_row(const StoredMatrix& m, int64_t row, Range columns, float* out) {
  const int64_t first = row * m.columns + columns.begin;
  switch (m.encoding) {
    case Encoding::kF32:
      std::memcpy(out, m.values + 4 * first, static_cast<size_t>(4 * columns.size()));
      break;
    case Encoding::kF16:
      convert_f16(m.values + 2 * first, columns.size(), out);
      break;
    case Encoding::kBF16:
      convert_bf16(m.values + 2 * first, columns.size(), out);
      break;
    case Encoding::kF8E4M3:
      read_f8(m, row, columns, out);
      break;
    case Encoding::kMxfp4:
      read_mxfp4(m, row, columns, out);
      break;
  }
}

constexpr int64_t kTileRows = 32, kStrip = 128;

// One tile of the transpose: reads (count - 1) * step + 1 columns of each stored row and keeps every step-th, as rows of
// `out` that lie `out_stride` apart.
void turn_tile(const StoredMatrix& m, StridedRange columns, Range rows, float* out, int64_t out_stride) {
  float tile[kTileRows][kStrip];
  const Range strip{columns.begin, columns.begin + (columns.count - 1) * columns.step + 1};
  for (int64_t i = 0; i < rows.size(); ++i) read_row(m, rows.begin + i, strip, tile[i]);
  for (int64_t j = 0; j < columns.count; ++j)
    for (int64_t i = 0; i < rows.size(); ++i) out[j * out_stride + i] = tile[i][j * columns.step];
}

bool has_scales(Encoding encoding) { return encoding == Encoding::kF8E4M3 || encoding == Encoding::kMxfp4; }

}  // namespace

void read_stored(const StoredMatrix& m, StridedRange rows, Range columns, std::span<float> out) {
  CHECK_EQ(static_cast<int64_t>(out.size()), rows.count * columns.size());
  if (out.empty()) return;
  if (rows.step == 1 && columns.size() == m.columns && !has_scales(m.encoding)) {
    const int64_t first = rows.begin * m.columns;
    StoredMatrix flat = m;  // one long row
    flat.columns = 0;
    return read_row(flat, 0, {first, first + rows.count * m.columns}, out.data());
  }
  for (int64_t r = 0; r < rows.count; ++r)
    read_row(m, rows.begin + r * rows.step, columns, out.data() + r * columns.size());
}

// Tile by tile: strips of stored rows are read along the row, so that every cache line and page is visited once per
// tile, and the tile is turned in the first-level cache.
void read_stored_transposed(const StoredMatrix& m, StridedRange columns, Range rows, std::span<float> out) {
  CHECK_EQ(static_cast<int64_t>(out.size()), columns.count * rows.size());
  if (out.empty()) return;
  const int64_t width = std::max<int64_t>(1, kStrip / columns.step);
  for (int64_t c = 0; c < columns.count; c += width) {
    const StridedRange part{columns.begin + c * columns.step, columns.step, std::min(width, columns.count - c)};
    for (int64_t r = rows.begin; r < rows.end; r += kTileRows) {
      const Range tile_rows{r, std::min(r + kTileRows, rows.end)};
      turn_tile(m, part, tile_rows, out.data() + c * rows.size() + (r - rows.begin), rows.size());
    }
  }
}

}  // namespace shoal
