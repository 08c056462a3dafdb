// SPDX-License-Identifier: Apache-2.0
// The product kernels (gemm.h), written once over simd.h and compiled for each path by gemm_<path>.cc. A register tile is kTileRows rows by
// kVectors * 16 columns; weights stream through it once per tile, activations are broadcast. After Goto and van de Geijn, "Anatomy of
// high-performance matrix multiplication" (2008), without their blocking of k in memory: panels are packed when the weights are loaded.
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

// acc + a * w, for a and w that are bf16 values: their product is exact, so two roundings are one (subnormal products aside).
SHOAL_INLINE F32x16 madd_bf16(F32x16 a, F32x16 w, F32x16 acc) {
#if defined(SHOAL_ISA_PLAIN)
  return acc + a * w;
#else
  return fma16(a, w, acc);
#endif
}

// The kinds of unit: `step` adds one unit's products to the accumulators.
struct F32Unit {
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

// bf16 weights already unpacked to f32.
struct UnpackedUnit {
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
      for (int v = 0; v < kVectors; ++v) acc[r][v] = madd_bf16(x, column[v], acc[r][v]);
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
      for (int v = 0; v < kVectors; ++v) acc[r][v] = madd_bf16(x, column[v], acc[r][v]);
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) column[v] = high_of_pairs(w + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F32x16 x = broadcast(a[r] + 2 * unit + 1);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[r][v] = madd_bf16(x, column[v], acc[r][v]);
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

// [units][columns] pairs to [2 * units][columns] f32.
void unpack(const uint32_t* w, int64_t units, float* out) {
  for (int64_t unit = 0; unit < units; ++unit, w += kColumns, out += 2 * kColumns) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      store16(out + 16 * v, low_of_pairs(w + 16 * v));
      store16(out + kColumns + 16 * v, high_of_pairs(w + 16 * v));
    }
  }
}

SHOAL_INLINE F32x16 activate(F32x16 gate, F32x16 up, bool clamped_swish, float limit) {
  if (!clamped_swish) return silu16(gate) * up;
  const F32x16 g = min16(set1(limit), gate);
  const F32x16 u = max16(set1(-limit), min16(set1(limit), up));
  return g * sigmoid16(set1(1.702f) * g) * (u + set1(1.0f));
}

// Finished sums [rows][kColumns] to the output.
void write_out(const GemmProduct& p, const GemmBlock& block, const float* sums) {
  const int64_t width = p.gated ? kColumns / 2 : kColumns;
  const int64_t first = block.panel * width;
  const int64_t n = p.w.columns - first < width ? p.w.columns - first : width;
  const float* bias = p.bias ? p.bias + first : nullptr;
  for (int64_t r = 0; r < block.rows; ++r, sums += kColumns) {
    const int64_t row = block.row + r;
    float* out = p.out + (p.out_index ? p.out_index[row] : row) * p.out_stride + first;
    for (int64_t c = 0; c < n; c += 16) {
      F32x16 x = load16(sums + c, width - c);
      if (bias) x = x + load16(bias + c, n - c);
      if (p.gated) {
        F32x16 up = load16(sums + width + c, width - c);
        if (bias) up = up + load16(bias + p.w.columns + c, n - c);
        x = activate(x, up, p.clamped_swish, p.limit);
      }
      store16(out + c, x, n - c);
    }
  }
}

void multiply(const GemmProduct& p, const GemmBlock& block) {
  const uint32_t* rows[kRowBlock];
  for (int64_t r = 0; r < block.rows; ++r) {
    const int64_t row = block.row + r;
    rows[r] = p.a + (p.a_index ? p.a_index[row] : row) * p.a_stride;
  }
  const uint32_t* panel = p.w.data + block.panel * p.w.panel_words;
  float* const unpacked = block.scratch + kGemmSlots * kSlotFloats;
  const bool one_tile = block.rows <= kTileRows;
  const bool unpacks = !kPairs && p.w.bf16 && block.rows > kUnpackTiles * kTileRows;
  const GemmStep* const steps = one_tile ? p.w.whole : p.w.blocked;
  const int32_t count = one_tile ? p.w.whole_steps : p.w.blocked_steps;
  for (int32_t s = 0; s < count; ++s) {
    const GemmStep& step = steps[s];
    const int64_t units = step.end - step.begin;
    Tile tile{.rows = rows,
              .row_offset = step.begin,
              .w = panel + int64_t{step.begin} * kColumns,
              .units = units,
              .sums = block.scratch + step.slot * kSlotFloats,
              .combines = step.combines,
              .resumes = step.resumes,
              .ahead = nullptr,
              .ahead_step = kColumns * 4,
              .lines = 0};
    tile.ahead = reinterpret_cast<const char*>(tile.w) + (one_tile ? kPrefetchBytes : units * kColumns * 4);
    if (!p.w.bf16) {
      run_tiles<F32Unit>(tile, block.rows);
    } else if (unpacks) {
      unpack(tile.w, tile.units, unpacked);
      tile.w = reinterpret_cast<const uint32_t*>(unpacked);
      tile.units *= 2;
      tile.row_offset *= 2;
      tile.ahead_step /= 2;
      run_tiles<UnpackedUnit>(tile, block.rows);
    } else {
      tile.row_offset *= Bf16Unit::kRowWords;
      run_tiles<Bf16Unit>(tile, block.rows);
    }
  }
  write_out(p, block, block.scratch);
}

void convert_segment(const float* x, float scale, int64_t n, uint32_t* out) {
  const int64_t padded = (n + 1) / 2 * 2;
  for (int64_t i = 0; i < padded; i += 16) {
    const F32x16 values = load16(x + i, n - i) * set1(scale);
    if (kPairs) {
      store16_bf16(reinterpret_cast<uint16_t*>(out) + i, values, padded - i);
    } else {
      store16(reinterpret_cast<float*>(out) + i, round_bf16(values), padded - i);
    }
  }
}

void convert_row(const float* x, float scale, const GemmSegment* segments, int32_t count, uint32_t* out) {
  for (int32_t s = 0; s < count; ++s) {
    const GemmSegment& segment = segments[s];
    convert_segment(x + segment.begin, scale, segment.end - segment.begin,
                    out + segment.first_unit * Bf16Unit::kRowWords);
  }
}

void scale_row(const float* x, float scale, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 16) store16(out + i, load16(x + i, n - i) * set1(scale), n - i);
}

void add_scaled(const float* x, float weight, int64_t n, float* sum) {
  const F32x16 factor = set1(weight);
  for (int64_t i = 0; i < n; i += 16)
    store16(sum + i, fma16(factor, load16(x + i, n - i), load16(sum + i, n - i)), n - i);
}

constexpr GemmKernels make_kernels() {
  return {.panel_columns = kColumns,
          .row_tile = kTileRows,
          .row_block = kRowBlock,
          .block_units_f32 = kBlockUnitsF32,
          .block_units_bf16 = kBlockUnitsBf16,
          .scratch_floats = kGemmSlots * kSlotFloats + 2 * kBlockUnitsBf16 * kColumns,
          .words_per_unit_bf16 = Bf16Unit::kRowWords,
          .multiply = multiply,
          .convert_row = convert_row,
          .scale_row = scale_row,
          .add_scaled = add_scaled};
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
