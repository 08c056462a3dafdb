// SPDX-License-Identifier: Apache-2.0
// Products with bf16 matrices by matrix tiles (simd_amx.h): a tile of up to 16 rows by the panel's 64 columns, to which an instruction adds
// 32 k of sixteen columns. An activation is as many bf16 numbers as there are planes: rounded to one, or to the sum of two (17 bits: an output is
// off by 2.5e-6 of its standard deviation, a seven-hundredth of what one costs, four times what an f32 chain over 1,024 k does).
// Bits: an output is one chain over steps of 32 k, the last one of a segment maybe of 16, in each of which the planes are added one after the
// other, the smaller first. Rows know nothing of each other; a single one is computed by vectors, to the same bits. For gemm_amx.cc only.
#pragma once

#include "backend/cpu/gemm_amx_tiles.h"

namespace shoal::SHOAL_ISA {
namespace {

// Most units of a strip: where many tiles read the weights, they stay in the first cache beside two tiles' activations and sums.
template <int kPlanes>
constexpr int64_t kTileUnits = kPlanes == 1 ? 96 : 64;
constexpr int64_t kWholeUnits = 512;
constexpr int64_t kManyRows = 4 * kTileSide;

// Rows of a block as tiles take them: at even distances, as they are, or copied.
template <int kPlanes>
class BlockRows {
 public:
  SHOAL_INLINE BlockRows(const GemmProduct& p, const GemmBlock& block) : p_(p), first_(block.row) {}
  SHOAL_INLINE const uint32_t* row(int64_t row) const {
    return p_.a + (p_.a_index ? p_.a_index[first_ + row] : first_ + row) * p_.a_stride;
  }
  // The strip's part of `height` rows from `first` on.
  SHOAL_INLINE void find(const Strip& strip, int64_t first, int64_t height, RowTile& tile) {
    tile.a = row(first) + strip.row_offset;
    tile.stride = p_.a_stride * 4;
    if (!p_.a_index) return;
    for (int64_t r = 0; r < height; ++r) {
      const auto* from = reinterpret_cast<const float*>(row(first + r) + strip.row_offset);
      auto* to = reinterpret_cast<float*>(copied_ + r * kStride);
      for (int64_t i = 0; i < kPlanes * strip.units; i += 16) store16(to + i, load16(from + i));
    }
    tile.a = copied_;
    tile.stride = kStride * 4;
  }
  // What row tile `first` takes next, if it lies at even distances: of this strip or, if that has been computed, of the next one.
  SHOAL_INLINE const uint32_t* after(const Strip& strip, int64_t first) const {
    if (p_.a_index || (first == 0 && strip.last)) return nullptr;
    return row(first) + strip.row_offset + (first == 0 ? kPlanes * strip.units : 0);
  }

 private:
  static constexpr int64_t kStride = kPlanes * kWholeUnits + kTileSide;
  const GemmProduct& p_;
  int64_t first_;
  alignas(kLine) uint32_t copied_[kTileSide * kStride];
};

// The strip's rows in tiles, lower ones first, so that each has as many rows as the block's tiles are high to read.
template <int kPlanes>
SHOAL_INLINE void run_row_tiles(const Strip& strip, const GemmBlock& block, BlockRows<kPlanes>& rows,
                                TileRun<kPlanes>& run) {
  const int64_t tiles = tiles_of(block.rows), height = height_of(block);
  RowTile tile;
  tile.fetches = block.row == 0;  // later blocks of a panel find its weights in the second cache
  int64_t row = 0;
  for (int64_t i = 0; i < tiles; ++i, row += tile.rows) {
    tile.row = block.row + row;
    tile.rows = (block.rows - row) / (tiles - i);
    tile.sums = strip.sums + i * kTileSide * kColumns;
    rows.find(strip, row, height, tile);
    tile.next = block.rows > kManyRows ? rows.after(strip, i + 1 == tiles ? 0 : row + tile.rows) : nullptr;
    run.run(strip, tile);
    tile.fetches = false;
  }
}

// The strips of a block, in each of which `run_strip` does what is to be done.
template <int kPlanes, class RunStrip>
SHOAL_INLINE void run_strips(const GemmProduct& p, const GemmBlock& block, const RunStrip& run_strip) {
  Strip strip = first_strip(p, block);
  StepCursor cursor;
  while (cursor.step < p.w.step_count) {
    cut_strip(p.w, block.rows > kManyRows ? kTileUnits<kPlanes> : kWholeUnits, cursor, strip);
    end_of_strip(p, block, cursor, strip);
    run_strip(strip);
    next_strip(strip, kPlanes);
  }
}

template <int kPlanes>
void multiply_tiles(const GemmProduct& p, const GemmBlock& block) {
  if (!p.w.bf16) return multiply(p, block);
  BlockRows<kPlanes> rows(p, block);
  if (block.rows == 1) {
    run_strips<kPlanes>(p, block, [&](const Strip& strip) {
      if (strip.last) fetch_out(p, block.panel, block.row, 1);
      run_row<kPlanes>(strip, rows.row(0));
    });
    return write_rows(p, block.panel, block.row, 1, block.scratch);
  }
  TileRun<kPlanes> run(p, block);
  run_strips<kPlanes>(p, block, [&](const Strip& strip) { run_row_tiles(strip, block, rows, run); });
  run.finish();
}

template <int kPlanes>
constexpr GemmKernels make_tile_kernels() {
  GemmKernels kernels = make_kernels();
  kernels.row_tile = kTileSide;
  kernels.words_per_unit_bf16 = kPlanes;
  kernels.unit_multiple_bf16 = kHalfStep;
  kernels.flops_per_byte_bf16 = 240 / kPlanes;
  kernels.multiply = multiply_tiles<kPlanes>;
  kernels.convert_row = convert_planes<kPlanes>;
  return kernels;
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
