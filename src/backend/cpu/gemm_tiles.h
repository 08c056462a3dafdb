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
constexpr int kGroupRows = 2 * kTileRows;  // with more rows, reading hides behind arithmetic anyway
#if defined(SHOAL_ISA_AVX512BF16)
constexpr bool kPairs = true;  // activations are bf16 pairs, multiplied two at a time
#else
constexpr bool kPairs = false;
#endif
// Where bf16 weights are widened in each tile: with more rows than one tile takes, tiles of twice the height and half the width widen half as
// often for each product; with more than a few tiles, weights are widened once for all.
#if defined(SHOAL_ISA_AVX512)
constexpr int kTallVectors = kVectors / 2;
#else
constexpr int kTallVectors = kVectors;
#endif
constexpr int kTallRows = kTileRows * kVectors / kTallVectors;
constexpr int kDirectRows = 4 * kTileRows;
// Units of a strip, which all tiles take before the next one is begun: 8 KiB of weights for one tile, which go through it while the strips of
// the other panels arrive; else what stays in the first-level cache.
constexpr int kOneTileUnits = 2048 / kColumns;
constexpr int kUnitsF32 = 8192 / kColumns;
constexpr int kUnitsBf16 = kPairs ? 96 : 4096 / kColumns;  // also where they are widened to 32 KiB of f32
constexpr int kLine = 64;
constexpr int kUnitLines = (kColumns * 4 + kLine - 1) / kLine;

struct Tile {
  const uint32_t* const* rows;  // activation rows
  int64_t row_offset;           // words from the row to the strip's first unit
  const uint32_t* w;
  int64_t units;
  float* sums;  // of the step's slot, [rows][kColumns]
  int combines;
  bool resumes;
  // Weights to fetch meanwhile: lines [first_line, last_line) of a unit, line l at ahead + line[l], moving on by `ahead_step` bytes with each
  // unit.
  const char* ahead;
  int64_t ahead_step;
  int64_t line[kUnitLines];
  int first_line;
  int last_line;
};

SHOAL_INLINE F32x16 broadcast(const uint32_t* p) {
  float x;
  __builtin_memcpy(&x, p, 4);
  return set1(x);
}

// The kinds of unit: `step` adds one unit's products to the accumulators. kRowWords: of an activation row.
// f32 weights, or bf16 ones already widened.
struct FloatUnit {
  static constexpr int kRowWords = 1;
  template <int kRows, int kWidth>
  static SHOAL_INLINE void step(F32x16 (&acc)[kRows][kWidth], const uint32_t* const (&a)[kRows], int64_t k,
                                const uint32_t* w) {
    F32x16 column[kWidth];
#pragma GCC unroll 4
    for (int v = 0; v < kWidth; ++v) column[v] = load16(reinterpret_cast<const float*>(w) + 16 * v);
    add_products(acc, a, k, column);
  }

  // acc[r] += a[r][k] * column.
  template <int kRows, int kWidth>
  static SHOAL_INLINE void add_products(F32x16 (&acc)[kRows][kWidth], const uint32_t* const (&a)[kRows], int64_t k,
                                        const F32x16 (&column)[kWidth]) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F32x16 x = broadcast(a[r] + k);
#pragma GCC unroll 4
      for (int v = 0; v < kWidth; ++v) add_product(acc[r][v], x, column[v]);
    }
  }
};

#if defined(SHOAL_ISA_AVX512BF16)
// The instruction's own sum of a pair.
struct Bf16Unit {
  static constexpr int kRowWords = 1;
  template <int kRows, int kWidth>
  static SHOAL_INLINE void step(F32x16 (&acc)[kRows][kWidth], const uint32_t* const (&a)[kRows], int64_t k,
                                const uint32_t* w) {
    __m512i column[kWidth];
#pragma GCC unroll 4
    for (int v = 0; v < kWidth; ++v) column[v] = _mm512_loadu_si512(w + 16 * v);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(a[r][k]));
#pragma GCC unroll 4
      for (int v = 0; v < kWidth; ++v) acc[r][v].v = _mm512_dpbf16_ps(acc[r][v].v, (__m512bh)x, (__m512bh)column[v]);
    }
  }
};
#else
struct Bf16Unit {
  static constexpr int kRowWords = 2;
  template <int kRows, int kWidth>
  static SHOAL_INLINE void step(F32x16 (&acc)[kRows][kWidth], const uint32_t* const (&a)[kRows], int64_t k,
                                const uint32_t* w) {
    F32x16 column[kWidth];
#pragma GCC unroll 4
    for (int v = 0; v < kWidth; ++v) column[v] = low_of_pairs(w + 16 * v);
    FloatUnit::add_products(acc, a, k, column);
#pragma GCC unroll 4
    for (int v = 0; v < kWidth; ++v) column[v] = high_of_pairs(w + 16 * v);
    FloatUnit::add_products(acc, a, k + 1, column);
  }
};
#endif

// Columns [0, 16 * kWidth) of the strip.
template <int kRows, int kWidth, class Unit>
void run_tile(const Tile& tile) {
  F32x16 acc[kRows][kWidth];
  const uint32_t* a[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    a[r] = tile.rows[r] + tile.row_offset;
#pragma GCC unroll 4
    for (int v = 0; v < kWidth; ++v) acc[r][v] = tile.resumes ? load16(tile.sums + r * kColumns + 16 * v) : zero16();
  }
  const uint32_t* w = tile.w;
  const char* ahead = tile.ahead;
  const int64_t ahead_step = tile.ahead_step;
  const int first_line = tile.first_line;
  const int last_line = tile.last_line;
  const int64_t end = tile.units * Unit::kRowWords;
  for (int64_t k = 0; k < end; k += Unit::kRowWords, w += kColumns, ahead += ahead_step) {
    for (int line = first_line; line < last_line; ++line) __builtin_prefetch(ahead + tile.line[line]);
    Unit::step(acc, a, k, w);
  }
  float* sums = tile.sums;
  for (int c = 0; c < tile.combines; ++c) {
    sums -= kSlotFloats;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kWidth; ++v) acc[r][v] = load16(sums + r * kColumns + 16 * v) + acc[r][v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kWidth; ++v) store16(sums + r * kColumns + 16 * v, acc[r][v]);
  }
}

using RunTile = void (*)(const Tile&);
template <class Unit>
RunTile tile_of(int64_t rows) {
  switch (rows) {
    case 1:
      return run_tile<1, kVectors, Unit>;
#if !defined(SHOAL_ISA_PLAIN)
    case 3:
      return run_tile<3, kVectors, Unit>;
    case 4:
      return run_tile<4, kVectors, Unit>;
    case 5:
      return run_tile<5, kVectors, Unit>;
    case 6:
      return run_tile<6, kVectors, Unit>;
#endif
#if defined(SHOAL_ISA_AVX512)
    case 7:
      return run_tile<7, kTallVectors, Unit>;
    case 8:
      return run_tile<8, kTallVectors, Unit>;
    case 9:
      return run_tile<9, kTallVectors, Unit>;
    case 10:
      return run_tile<10, kTallVectors, Unit>;
    case 11:
      return run_tile<11, kTallVectors, Unit>;
    case 12:
      return run_tile<12, kTallVectors, Unit>;
#endif
    default:
      return run_tile<2, kVectors, Unit>;
  }
}

// The strip's rows in tiles of equal height, as far as possible: a tile of one row would wait for its own sums. They share the fetching of
// what comes after the strip.
template <class Unit>
void run_tiles(Tile tile, int64_t rows, int64_t most_rows) {
  int64_t left = kUnitLines;
  for (int64_t tiles = (rows + most_rows - 1) / most_rows; tiles > 0; --tiles) {
    const int64_t height = (rows + tiles - 1) / tiles;
    const int width = height > kTileRows ? kTallVectors : kVectors;
    const RunTile run = tile_of<Unit>(height);
    int64_t runs = tiles * (kVectors / width);
    for (int v = 0; v < kVectors; v += width, --runs) {
      const auto lines = static_cast<int>((left + runs - 1) / runs);
      tile.last_line = tile.first_line + lines;
      run(tile);
      left -= lines;
      tile.first_line += lines;
      tile.w += 16 * width;
      tile.sums += 16 * width;
    }
    tile.w -= kColumns;
    tile.rows += height;
    tile.sums += (height - 1) * kColumns;
    rows -= height;
  }
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
