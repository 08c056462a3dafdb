// SPDX-License-Identifier: Apache-2.0
// Register tiles of products: kTileRows rows by kVectors * 16 columns; weights stream through a tile once, activations are broadcast. For
// gemm_kernels.h only, which puts the tiles together.
#pragma once

#include "backend/cpu/gemm_units.h"

namespace shoal::SHOAL_ISA {
namespace {

constexpr int kUnitLines = (kColumns * 4 + kLine - 1) / kLine;
// What a tile fetches that is the only one to read its weights: so far ahead into the first cache. Most processors need this to read at their
// full rate, some only if they fetch what is further ahead into the second cache too (fetches_far). Those with narrow vectors and no need of that
// do best with little: their own fetching of a single stream goes on beyond it.
#if defined(SHOAL_WIDE_VECTORS)
constexpr int kNearBytes = 4096;
#else
constexpr int kNearBytes = 1024;
#endif
constexpr int kFarNearBytes = 4096;
constexpr int kFarBytes = 8192;  // beyond those

enum class Fetching : uint8_t {
  kSecond,  // into the second-level cache
  kNear,    // into the first
  kFar,     // into the first, and into the second what is kFarBytes further ahead
};

// Rows from `row` on and columns from 16 * `vector` on of a strip, and what it fetches.
struct Tile {
  int64_t row;
  int vector;
  Fetching fetching;  // not kSecond: the only tile of its strip, which fetches its own weights
  int lines;          // kSecond: with each unit
  const char* ahead;
};

// Where a tile is in its strip.
struct Cursor {
  int64_t k;  // words of an activation row, from the strip's first
  const uint32_t* w;
  const char* ahead;
};

template <int kLines, Fetching kFetching, class Unit, int kRows, int kWidth>
SHOAL_INLINE void add_units(const Unit& unit, F32x16 (&acc)[kRows][kWidth], const uint32_t* const (&a)[kRows],
                            int64_t units, Cursor& cursor) {
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
    unit.step(acc, a, k, w);
  }
  cursor = {k, w, ahead};
}

template <int kRows, int kWidth, class Unit>
void run_tile(const Strip& strip, const Tile& tile) {
  F32x16 acc[kRows][kWidth];
  const uint32_t* a[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) a[r] = strip.rows[tile.row + r] + strip.row_offset;
  const Unit unit = make_unit<Unit>(strip, tile.vector);
  Cursor cursor{.k = 0, .w = Unit::columns(strip, tile.vector), .ahead = tile.ahead};
  for (int i = 0; i < strip.piece_count; ++i) {
    const Piece& piece = strip.pieces[i];
    float* sums = strip.sums + piece.slot * kSlotFloats + tile.row * kColumns + 16 * tile.vector;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kWidth; ++v) acc[r][v] = piece.resumes ? load16(sums + r * kColumns + 16 * v) : zero16();
    }
    if (tile.fetching == Fetching::kFar) {
      add_units<kUnitLines, Fetching::kFar>(unit, acc, a, piece.units, cursor);
    } else if (tile.fetching == Fetching::kNear) {
      add_units<kUnitLines, Fetching::kNear>(unit, acc, a, piece.units, cursor);
    } else if (tile.lines == 0) {
      add_units<0, Fetching::kSecond>(unit, acc, a, piece.units, cursor);
    } else if (tile.lines == 1) {
      add_units<1, Fetching::kSecond>(unit, acc, a, piece.units, cursor);
    } else {
      add_units<2, Fetching::kSecond>(unit, acc, a, piece.units, cursor);
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

template <class Unit>
constexpr int width_of(int64_t rows) {
  return rows > kTileRows && kTallVectors < Unit::kMostVectors ? kTallVectors : Unit::kMostVectors;
}

using RunTile = void (*)(const Strip&, const Tile&);
template <class Unit, int kRows = kTallRows>
RunTile tile_of(int64_t rows) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return tile_of<Unit, kRows - 1>(rows);
  }
  return run_tile<kRows, width_of<Unit>(kRows), Unit>;
}

// The strip's rows in tiles of equal height, as far as possible: a tile of one row would wait for its own sums. They share the fetching of
// what comes after the strip.
template <class Unit, class FirstUnit = Unit>
void run_tiles(const Strip& strip, int64_t rows, int64_t most_rows) {
  if (rows <= kTileRows) {
    const Fetching fetching = strip.far ? Fetching::kFar : Fetching::kNear;
    const char* ahead = reinterpret_cast<const char*>(strip.w) + (strip.far ? kFarNearBytes : kNearBytes);
    return tile_of<FirstUnit>(rows)(strip, {.row = 0, .vector = 0, .fetching = fetching, .lines = 0, .ahead = ahead});
  }
  int64_t lines = strip.ahead ? kUnitLines : 0;
  Tile tile{.row = 0, .vector = 0, .fetching = Fetching::kSecond, .lines = 0, .ahead = strip.ahead};
  for (int64_t tiles = (rows + most_rows - 1) / most_rows; tiles > 0; --tiles) {
    const int64_t height = (rows - tile.row + tiles - 1) / tiles;
    const int width = width_of<Unit>(height);
    const RunTile run = tile.row == 0 ? tile_of<FirstUnit>(height) : tile_of<Unit>(height);
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
