// SPDX-License-Identifier: Apache-2.0
// Products with bf16 matrices by matrix tiles (simd_amx.h): a tile of up to 16 rows by the panel's 64 columns, to which an instruction adds
// 32 k of sixteen columns. An activation is as many bf16 numbers as there are planes: rounded to one, or to the sum of two (17 bits: an output is
// off by 2.5e-6 of its standard deviation, a seven-hundredth of what one costs, four times what an f32 chain over 1,024 k does).
// Bits: an output is one chain over steps of 32 k, the last one of a segment maybe of 16, in each of which the planes are added one after the
// other, the smaller first. Rows know nothing of each other; a single one is computed by vectors, to the same bits. For gemm_amx.cc only.
#pragma once

#include "backend/cpu/gemm_amx_rows.h"

namespace shoal::SHOAL_ISA {
namespace {

static_assert(kColumns == 4 * kTileSide);
// Most units of a strip: where many tiles read the weights, 32 KiB of them stay in the first cache beside a tile's activations.
constexpr int64_t kTileUnits = 128;
constexpr int64_t kWholeUnits = 512;
constexpr int64_t kManyRows = 4 * kTileSide;
constexpr int64_t kSumsStride = kColumns * 4;
// Tiles beside the sums. One for weights is enough, since the processor renames it.
constexpr int kActivations = 4, kWeights = 5, kHalfActivations = 6, kHalfWeights = 7;

SHOAL_INLINE int64_t tiles_of(int64_t rows) { return (rows + kTileSide - 1) / kTileSide; }

SHOAL_INLINE void configure_rows(int64_t rows) {
  TileShapes shapes;
  for (int tile = 0; tile <= kActivations; ++tile) shapes.set_rows(tile, rows);
  shapes.set_rows(kHalfActivations, rows);
  shapes.set_words(kHalfActivations, kHalfStep);
  shapes.set_rows(kHalfWeights, kHalfStep);
  shapes.configure();
}

// Up to 16 rows of a strip.
struct RowTile {
  const uint32_t* a;
  int64_t stride;  // bytes
  int64_t rows;
  float* sums;   // slot 0
  bool fetches;  // the strip's weights, for itself and the tiles after it
};

// What else is fetched meanwhile, so many lines with each step.
class Soon {
 public:
  SHOAL_INLINE Soon(const GemmBlock& block, int64_t units)
      : at_(block.soon),
        end_(block.soon + block.soon_bytes),
        lines_(block.soon_bytes / kLine / (tiles_of(block.rows) * units / kUnitStep + 1) + 1) {}
  SHOAL_INLINE void fetch() {
    if (at_ >= end_) return;
    for (int64_t line = 0; line < lines_; ++line) __builtin_prefetch(at_ + line * kLine, 0, 2);
    at_ += lines_ * kLine;
  }

 private:
  const char* at_;
  const char* end_;
  int64_t lines_;
};

template <int kColumn, int kA, int kW>
SHOAL_INLINE void add_column(const uint32_t* w) {
  load_tile<kW>(w + kTileSide * kColumn, kWeightsStride);
  add_tile_product<kColumn, kA, kW>();
}

// A step of `kUnits`, in tiles kA and kW.
template <int kPlanes, int kUnits, int kA, int kW>
SHOAL_INLINE void add_step(const uint32_t* a, int64_t stride, const uint32_t* w) {
#pragma GCC unroll 2
  for (int plane = 0; plane < kPlanes; ++plane) {
    load_tile<kA>(a + plane * kUnits, stride);
    add_column<0, kA, kW>(w);
    add_column<1, kA, kW>(w);
    add_column<2, kA, kW>(w);
    add_column<3, kA, kW>(w);
  }
}

template <int kPlanes>
void run_row_tile(const Strip& strip, const RowTile& tile, Soon& soon) {
  const uint32_t* a = tile.a;
  const uint32_t* w = strip.w;
  // A piece is combined while the next one is computed: right after its stores, its sums could not be read yet.
  float* finished = nullptr;
  int combines = 0;
  for (int i = 0; i < strip.piece_count; ++i) {
    const Piece& piece = strip.pieces[i];
    float* sums = tile.sums + piece.slot * kSlotFloats;
    if (piece.resumes) {
      load_sums(sums, kTileSide, kSumsStride);
    } else {
      zero_sums();
    }
    int64_t units = 0;
    for (; units + kUnitStep <= piece.units; units += kUnitStep) {
      if (tile.fetches) {
        fetch_weights(strip, w, kUnitStep);
      } else {
        soon.fetch();
      }
      add_step<kPlanes, kUnitStep, kActivations, kWeights>(a, tile.stride, w);
      a += kPlanes * kUnitStep;
      w += kUnitStep * kColumns;
    }
    if (units < piece.units) {
      if (tile.fetches) fetch_weights(strip, w, kHalfStep);
      add_step<kPlanes, kHalfStep, kHalfActivations, kHalfWeights>(a, tile.stride, w);
      a += kPlanes * kHalfStep;
      w += kHalfStep * kColumns;
    }
    combine(finished, tile.rows, combines);
    store_sums(sums, kTileSide, kSumsStride);
    finished = sums;
    combines = piece.combines;
  }
  combine(finished, tile.rows, combines);
}

// Rows of a block as tiles take them: at even distances, as they are, or copied.
template <int kPlanes>
class BlockRows {
 public:
  SHOAL_INLINE BlockRows(const GemmProduct& p, const GemmBlock& block) : p_(p), first_(block.row) {}
  SHOAL_INLINE const uint32_t* row(int64_t row) const {
    return p_.a + (p_.a_index ? p_.a_index[first_ + row] : first_ + row) * p_.a_stride;
  }
  // The strip's part of rows [row, row + tile.rows).
  SHOAL_INLINE void find(const Strip& strip, int64_t first, RowTile& tile) {
    tile.a = row(first) + strip.row_offset;
    tile.stride = p_.a_stride * 4;
    if (!p_.a_index || tile.rows == 1) return;
    for (int64_t r = 0; r < tile.rows; ++r) {
      const auto* from = reinterpret_cast<const float*>(row(first + r) + strip.row_offset);
      auto* to = reinterpret_cast<float*>(copied_ + r * kStride);
      for (int64_t i = 0; i < kPlanes * strip.units; i += 16) store16(to + i, load16(from + i));
    }
    tile.a = copied_;
    tile.stride = kStride * 4;
  }

 private:
  static constexpr int64_t kStride = kPlanes * kWholeUnits + kTileSide;
  const GemmProduct& p_;
  int64_t first_;
  alignas(kLine) uint32_t copied_[kTileSide * kStride];
};

// The strip's rows in tiles of equal height, as far as possible.
template <int kPlanes>
SHOAL_INLINE void run_row_tiles(const Strip& strip, const GemmBlock& block, BlockRows<kPlanes>& rows, Soon& soon) {
  RowTile tile;
  tile.rows = 0;
  tile.fetches = block.row == 0;  // later blocks of a panel find its weights in the second cache
  int64_t row = 0;
  for (int64_t tiles = tiles_of(block.rows); tiles > 0; --tiles, row += tile.rows) {
    const int64_t before = tile.rows;
    tile.rows = (block.rows - row + tiles - 1) / tiles;
    if (tile.rows != before) configure_rows(tile.rows);
    tile.sums = strip.sums + row * kColumns;
    rows.find(strip, row, tile);
    run_row_tile<kPlanes>(strip, tile, soon);
    tile.fetches = false;
  }
}

template <int kPlanes>
void multiply_tiles(const GemmProduct& p, const GemmBlock& block) {
  if (!p.w.bf16) return multiply(p, block);
  BlockRows<kPlanes> rows(p, block);
  Strip strip = first_strip(p, block);
  Soon soon(block, p.w.panel_words / kColumns);
  StepCursor cursor;
  while (cursor.step < p.w.step_count) {
    cut_strip(p.w, block.rows > kManyRows ? kTileUnits : kWholeUnits, cursor, strip);
    end_of_strip(p, block, cursor, strip);
    if (block.rows == 1) {
      run_row<kPlanes>(strip, rows.row(0));
    } else {
      run_row_tiles(strip, block, rows, soon);
    }
    next_strip(strip, kPlanes);
  }
  if (block.rows > 1) release_tiles();
  write_out(p, block);
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
