// SPDX-License-Identifier: Apache-2.0
// Register tiles of products: kTileRows rows by kVectors * 16 columns; weights stream through a tile once, activations are broadcast. For
// gemm_kernels.h only, which puts the tiles together.
#pragma once

#include "backend/cpu/gemm.h"
#include "backend/cpu/simd.h"

namespace shoal::SHOAL_ISA {
namespace {

#if defined(SHOAL_WIDE_VECTORS)
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
#if defined(SHOAL_ISA_AVX512BF16)
constexpr bool kPairs = true;  // activations are bf16 pairs, multiplied two at a time
#else
constexpr bool kPairs = false;
#endif
// Tiles of twice the height and half the width, for more rows than one tile takes: weights come half as often from the second-level cache, and
// where they are widened in each tile, are widened half as often for each product. Pairs of more than a few tiles take low ones: activations
// instead of weights are what takes the time.
#if defined(SHOAL_WIDE_VECTORS)
constexpr int kTallVectors = kVectors / 2;
#else
constexpr int kTallVectors = kVectors;
#endif
constexpr int kTallRows = kTileRows * kVectors / kTallVectors;
// Where vectors are narrow, weights of more rows than so many are widened once for all tiles. With wide ones, the stores of that take longer
// than it saves.
constexpr bool kWidens = kTallVectors == kVectors;
constexpr int kDirectRows = 4 * kTileRows;
// Most units of a strip, which all tiles take before the next one is begun.
constexpr int kUnitsF32 = 8192 / kColumns;
constexpr int kUnitsBf16 = kWidens ? 4096 / kColumns : 256;  // to 32 KiB of f32
constexpr int kUnitLines = (kColumns * 4 + kLine - 1) / kLine;
// What a tile fetches that is the only one to read its weights: so far ahead into the first cache. Some processors need this to read at their
// full rate; those that do not lose little, but much by fetching from further away, which holds up their own fetching of a single stream.
constexpr int kNearBytes = 4096;
constexpr int kFarBytes = 8192;  // and what is so much further away into the second cache, where that is faster
constexpr int kMostPieces = 8;   // eighths of K

// Consecutive units of a strip that belong to one step.
struct Piece {
  int64_t units;
  int slot;
  int combines;
  bool resumes;
};

struct Strip {
  const uint32_t* const* rows;  // activation rows
  int64_t row_offset;           // words from a row to its first unit of the strip
  const uint32_t* w;
  int64_t units;
  Piece pieces[kMostPieces];
  int piece_count;
  float* sums;  // [slot][rows of a block][kColumns]
  const char*
      ahead;  // weights to fetch meanwhile, as many as the strip's own, where several tiles read the strip; or null
  bool far;   // how a single tile fetches
  bool last;  // of its block
};

enum class Fetching : uint8_t {
  kSecond,  // into the second-level cache
  kNear,    // into the first
  kFar,     // kNear, and into the second what is kFarBytes further ahead
};

// Rows from `row` on and columns from 16 * `vector` on of a strip, and what it fetches.
struct Tile {
  int64_t row;
  int vector;
  Fetching fetching;  // not kSecond: the only tile of its strip, which fetches its own weights
  int lines;          // kSecond: with each unit
  const char* ahead;
};

SHOAL_INLINE F32x16 broadcast(const uint32_t* p) {
  float x;
  __builtin_memcpy(&x, p, 4);
  return set1(x);
}

// The kinds of unit: `step` adds one unit's products to the accumulators. kRowWords: of an activation row, kWords: of weights.
struct FloatUnit {
  static constexpr int kRowWords = 1;
  static constexpr int kWords = kColumns;
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

// A bf16 unit already widened to two of f32.
struct WidenedUnit {
  static constexpr int kRowWords = 2;
  static constexpr int kWords = 2 * kColumns;
  template <int kRows, int kWidth>
  static SHOAL_INLINE void step(F32x16 (&acc)[kRows][kWidth], const uint32_t* const (&a)[kRows], int64_t k,
                                const uint32_t* w) {
    FloatUnit::step(acc, a, k, w);
    FloatUnit::step(acc, a, k + 1, w + kColumns);
  }
};

#if defined(SHOAL_ISA_AVX512BF16)
// The instruction's own sum of a pair.
struct Bf16Unit {
  static constexpr int kRowWords = 1;
  static constexpr int kWords = kColumns;
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
  static constexpr int kWords = kColumns;
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

// Where a tile is in its strip.
struct Cursor {
  int64_t k;  // words of an activation row, from the strip's first
  const uint32_t* w;
  const char* ahead;
};

template <int kLines, Fetching kFetching, class Unit, int kRows, int kWidth>
SHOAL_INLINE void add_units(F32x16 (&acc)[kRows][kWidth], const uint32_t* const (&a)[kRows], int64_t units,
                            Cursor& cursor) {
  int64_t k = cursor.k;
  const uint32_t* w = cursor.w;
  const char* ahead = cursor.ahead;
  for (const int64_t end = k + units * Unit::kRowWords; k < end; k += Unit::kRowWords, w += Unit::kWords) {
#pragma GCC unroll 4
    for (int line = 0; line < kLines; ++line) {
      if constexpr (kFetching == Fetching::kFar) __builtin_prefetch(ahead + kFarBytes + line * kLine, 0, 2);
      __builtin_prefetch(ahead + line * kLine, 0, kFetching == Fetching::kSecond ? 2 : 3);
    }
    ahead += kLines * kLine;
    Unit::step(acc, a, k, w);
  }
  cursor = {k, w, ahead};
}

template <int kRows, int kWidth, class Unit>
void run_tile(const Strip& strip, const Tile& tile) {
  F32x16 acc[kRows][kWidth];
  const uint32_t* a[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) a[r] = strip.rows[tile.row + r] + strip.row_offset;
  Cursor cursor{.k = 0, .w = strip.w + 16 * tile.vector, .ahead = tile.ahead};
  for (int i = 0; i < strip.piece_count; ++i) {
    const Piece& piece = strip.pieces[i];
    float* sums = strip.sums + piece.slot * kSlotFloats + tile.row * kColumns + 16 * tile.vector;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kWidth; ++v) acc[r][v] = piece.resumes ? load16(sums + r * kColumns + 16 * v) : zero16();
    }
    if (tile.fetching == Fetching::kFar) {
      add_units<kUnitLines, Fetching::kFar, Unit>(acc, a, piece.units, cursor);
    } else if (tile.fetching == Fetching::kNear) {
      add_units<kUnitLines, Fetching::kNear, Unit>(acc, a, piece.units, cursor);
    } else if (tile.lines == 0) {
      add_units<0, Fetching::kSecond, Unit>(acc, a, piece.units, cursor);
    } else if (tile.lines == 1) {
      add_units<1, Fetching::kSecond, Unit>(acc, a, piece.units, cursor);
    } else {
      add_units<2, Fetching::kSecond, Unit>(acc, a, piece.units, cursor);
    }
    for (int c = 0; c < piece.combines; ++c) {
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
}

using RunTile = void (*)(const Strip&, const Tile&);
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
#if defined(SHOAL_WIDE_VECTORS)
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
void run_tiles(const Strip& strip, int64_t rows, int64_t most_rows) {
  if (rows <= kTileRows) {
    const char* near = reinterpret_cast<const char*>(strip.w) + kNearBytes;
    const Fetching fetching = strip.far ? Fetching::kFar : Fetching::kNear;
    return tile_of<Unit>(rows)(strip, {.row = 0, .vector = 0, .fetching = fetching, .lines = 0, .ahead = near});
  }
  int64_t lines = strip.ahead ? kUnitLines : 0;
  Tile tile{.row = 0, .vector = 0, .fetching = Fetching::kSecond, .lines = 0, .ahead = strip.ahead};
  for (int64_t tiles = (rows + most_rows - 1) / most_rows; tiles > 0; --tiles) {
    const int64_t height = (rows - tile.row + tiles - 1) / tiles;
    const int width = height > kTileRows ? kTallVectors : kVectors;
    const RunTile run = tile_of<Unit>(height);
    int64_t runs = tiles * (kVectors / width);
    for (tile.vector = 0; tile.vector < kVectors; tile.vector += width, --runs) {
      tile.lines = static_cast<int>((lines + runs - 1) / runs);
      run(strip, tile);
      lines -= tile.lines;
      tile.ahead += tile.lines * kLine * strip.units;
    }
    tile.row += height;
  }
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
