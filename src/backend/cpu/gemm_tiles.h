// SPDX-License-Identifier: Apache-2.0
// Register tiles of products: kTileRows rows by kVectors * 16 columns; weights stream through a tile once, activations are broadcast. For
// gemm_kernels.h only, which puts the tiles together.
#pragma once

#include "backend/cpu/gemm.h"
#include "backend/cpu/simd.h"

namespace shoal::SHOAL_ISA {
namespace {

#if defined(SHOAL_ISA_AVX512BF16) || defined(SHOAL_ISA_AVX512)
constexpr int kVectors = 4;
constexpr int kTileRows = 6;
#elif defined(SHOAL_ISA_AVX2)
constexpr int kVectors = 1;
constexpr int kTileRows = 6;
#else
constexpr int kVectors = 1;
constexpr int kTileRows = 2;
#endif
constexpr int kColumns = kVectors * 16;
constexpr int kRowBlock = 96;  // activations of a block and its sums share the second-level cache with the panel
constexpr int kSlotFloats = kRowBlock * kColumns;
constexpr int kBlockUnitsF32 = 8192 / kColumns;  // 32 KiB of weights
#if defined(SHOAL_ISA_AVX512BF16)
constexpr bool kPairs = true;  // activations are bf16 pairs, multiplied two at a time
constexpr int kBlockUnitsBf16 = 96;
#else
constexpr bool kPairs = false;
constexpr int kBlockUnitsBf16 = kBlockUnitsF32 / 2;  // unpacked to f32
#endif
// With more tiles than this, bf16 weights are unpacked once per block rather than in each tile.
constexpr int kUnpackTiles = 3;
constexpr int kPrefetchBytes = 4096;
constexpr int kLine = 64;

struct Tile {
  const uint32_t* const* rows;  // activation rows
  int64_t row_offset;           // words from the row to the step's first unit
  const uint32_t* w;
  int64_t units;
  float* sums;  // of the step's slot, [rows][kColumns]
  int combines;
  bool resumes;
  // Weights to fetch meanwhile: `lines` cache lines at `ahead`, moving on by `ahead_step` bytes with each unit.
  const char* ahead;
  int ahead_step;
  int lines;
};

SHOAL_INLINE F32x16 broadcast(const uint32_t* p) {
  float x;
  __builtin_memcpy(&x, p, 4);
  return set1(x);
}

// The kinds of unit: `step` adds one unit's products to the accumulators.
// f32 weights, or bf16 ones already unpacked to f32.
struct FloatUnit {
  static constexpr int kRowWords = 1;
  template <int kRows>
  static SHOAL_INLINE void step(F32x16 (&acc)[kRows][kVectors], const uint32_t* const (&a)[kRows], int64_t unit,
                                const uint32_t* w) {
    F32x16 column[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) column[v] = load16(reinterpret_cast<const float*>(w) + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F32x16 x = broadcast(a[r] + unit);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[r][v] = fma16(x, column[v], acc[r][v]);
    }
  }
};

#if defined(SHOAL_ISA_AVX512BF16)
// The instruction's own sum of a pair.
struct Bf16Unit {
  static constexpr int kRowWords = 1;
  template <int kRows>
  static SHOAL_INLINE void step(F32x16 (&acc)[kRows][kVectors], const uint32_t* const (&a)[kRows], int64_t unit,
                                const uint32_t* w) {
    __m512i column[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) column[v] = _mm512_loadu_si512(w + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(a[r][unit]));
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[r][v].v = _mm512_dpbf16_ps(acc[r][v].v, (__m512bh)x, (__m512bh)column[v]);
    }
  }
};
#else
struct Bf16Unit {
  static constexpr int kRowWords = 2;
  template <int kRows>
  static SHOAL_INLINE void step(F32x16 (&acc)[kRows][kVectors], const uint32_t* const (&a)[kRows], int64_t unit,
                                const uint32_t* w) {
    F32x16 column[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) column[v] = low_of_pairs(w + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F32x16 x = broadcast(a[r] + 2 * unit);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[r][v] = fma16(x, column[v], acc[r][v]);
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) column[v] = high_of_pairs(w + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F32x16 x = broadcast(a[r] + 2 * unit + 1);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[r][v] = fma16(x, column[v], acc[r][v]);
    }
  }
};
#endif

template <int kRows, class Unit>
void run_tile(const Tile& tile) {
  F32x16 acc[kRows][kVectors];
  const uint32_t* a[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    a[r] = tile.rows[r] + tile.row_offset;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[r][v] = tile.resumes ? load16(tile.sums + r * kColumns + 16 * v) : zero16();
  }
  const uint32_t* w = tile.w;
  const char* ahead = tile.ahead;
  for (int64_t unit = 0; unit < tile.units; ++unit, w += kColumns, ahead += tile.ahead_step) {
    for (int line = 0; line < tile.lines; ++line) __builtin_prefetch(ahead + kLine * line);
    Unit::template step<kRows>(acc, a, unit, w);
  }
  float* sums = tile.sums;
  for (int c = 0; c < tile.combines; ++c) {
    sums -= kSlotFloats;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[r][v] = load16(sums + r * kColumns + 16 * v) + acc[r][v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store16(sums + r * kColumns + 16 * v, acc[r][v]);
  }
}

using RunTile = void (*)(const Tile&);
template <class Unit>
RunTile tile_of(int64_t rows) {
  switch (rows) {
    case 1:
      return run_tile<1, Unit>;
#if !defined(SHOAL_ISA_PLAIN)
    case 3:
      return run_tile<3, Unit>;
    case 4:
      return run_tile<4, Unit>;
    case 5:
      return run_tile<5, Unit>;
    case 6:
      return run_tile<6, Unit>;
#endif
    default:
      return run_tile<2, Unit>;
  }
}

// The step's rows in tiles of equal height, as far as possible: a tile of one row would wait for its own sums. They share the fetching of
// what comes after the step.
template <class Unit>
void run_tiles(Tile tile, int64_t rows) {
  int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  const int lines_of_unit = (tile.ahead_step + kLine - 1) / kLine;
  int left = lines_of_unit;
  tile.lines = static_cast<int>((lines_of_unit + tiles - 1) / tiles);
  for (; tiles > 0; --tiles) {
    const int64_t height = (rows + tiles - 1) / tiles;
    if (tile.lines > left) tile.lines = left;
    tile_of<Unit>(height)(tile);
    left -= tile.lines;
    tile.ahead += tile.lines * kLine;
    tile.rows += height;
    tile.sums += height * kColumns;
    rows -= height;
  }
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
