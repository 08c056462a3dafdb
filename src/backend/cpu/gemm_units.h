// SPDX-License-Identifier: Apache-2.0
// The shapes of panels, strips and register tiles of products, and the kinds of unit that a tile adds to its sums. For gemm_tiles.h and
// attention only.
#pragma once

#include "backend/cpu/gemm.h"
#include "backend/cpu/simd.h"

namespace shoal::SHOAL_ISA {
namespace {

// Low tiles, of the panel's whole width, and tall ones of kTallVectors for more rows: weights come half as often from the second-level cache,
// and where they are widened in each tile, are widened half as often for each product. Pairs of more than a few tiles take low ones, and so do
// f32 weights where vectors are wide: activations instead of weights are what takes the time.
#if defined(SHOAL_WIDE_VECTORS)
constexpr int kVectors = 4;
constexpr int kTileRows = 6;
constexpr int kTallRows = 12;
#elif defined(SHOAL_ISA_AVX2)
constexpr int kVectors = 2;
constexpr int kTileRows = 2;
constexpr int kTallRows = 6;
#else
constexpr int kVectors = 1;
constexpr int kTileRows = 2;
constexpr int kTallRows = 2;
#endif
constexpr int kTallVectors = kVectors > 1 ? kVectors / 2 : 1;
constexpr int kColumns = kVectors * 16;
constexpr int kRowBlock = 96;  // activations of a block and its sums share the second-level cache with the panel
constexpr int kSlotFloats = kRowBlock * kColumns;
#if defined(SHOAL_ISA_AVX512BF16)
constexpr bool kPairs = true;  // activations are bf16 pairs, multiplied two at a time
#else
constexpr bool kPairs = false;
#endif
// Where vectors are narrow, the first tile of three whole ones or more leaves weights widened for the others. With wide vectors, the stores of
// that take longer than it saves.
#if defined(SHOAL_WIDE_VECTORS)
constexpr bool kWidens = false;
constexpr int kFloatRows = kTileRows;
#else
constexpr bool kWidens = true;
constexpr int kFloatRows = kTallRows;
#endif
constexpr int kDirectRows = 3 * kTallRows - 1;
// Most units of a strip, which all tiles take before the next one is begun.
constexpr int kUnitsF32 = (kWidens ? 16384 : 8192) / kColumns;
constexpr int kUnitsBf16 = 16384 / kColumns;    // 64 KiB
constexpr int kUnitsWidened = 8192 / kColumns;  // the same as f32
constexpr int kMostPieces = 8;                  // eighths of K

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
  float* sums;     // [slot][rows of a block][kColumns]
  float* widened;  // room for bf16 weights as f32, [columns / 16][2 * units][16]
  const char*
      ahead;  // weights to fetch meanwhile, as many as the strip's own, where several tiles read the strip; or null
  bool far;   // how a single tile fetches
  bool last;  // of its block
};

SHOAL_INLINE float* widened_columns(const Strip& strip, int vector) {
  return strip.widened + vector * strip.units * 2 * 16;
}

SHOAL_INLINE F32x16 broadcast(const uint32_t* p) {
  float x;
  __builtin_memcpy(&x, p, 4);
  return set1(x);
}

// The kinds of unit: `step` adds one unit's products to the accumulators. kRowWords: of an activation row, kWords: of weights, which begin at
// columns(); kMostVectors: the width of low tiles, and of tall ones at most.
struct PanelUnit {
  static constexpr int kWords = kColumns;
  static constexpr int kMostVectors = kVectors;
  static SHOAL_INLINE const uint32_t* columns(const Strip& strip, int vector) { return strip.w + 16 * vector; }
};

struct FloatUnit : PanelUnit {
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
struct Bf16Unit : PanelUnit {
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
struct Bf16Unit : PanelUnit {
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

// A bf16 unit that is left widened for the tiles after this one.
struct WideningUnit : PanelUnit {
  static constexpr int kRowWords = 2;
  static constexpr int kMostVectors = 1;
  float* widened;
  template <int kRows>
  SHOAL_INLINE void step(F32x16 (&acc)[kRows][1], const uint32_t* const (&a)[kRows], int64_t k,
                         const uint32_t* w) const {
    const F32x16 low[1] = {low_of_pairs(w)}, high[1] = {high_of_pairs(w)};
    store16(widened + 16 * k, low[0]);
    store16(widened + 16 * k + 16, high[0]);
    FloatUnit::add_products(acc, a, k, low);
    FloatUnit::add_products(acc, a, k + 1, high);
  }
};

struct WidenedUnit {
  static constexpr int kRowWords = 2;
  static constexpr int kWords = 2 * 16;
  static constexpr int kMostVectors = 1;
  static SHOAL_INLINE const uint32_t* columns(const Strip& strip, int vector) {
    return reinterpret_cast<const uint32_t*>(widened_columns(strip, vector));
  }
  template <int kRows>
  static SHOAL_INLINE void step(F32x16 (&acc)[kRows][1], const uint32_t* const (&a)[kRows], int64_t k,
                                const uint32_t* w) {
    FloatUnit::step(acc, a, k, w);
    FloatUnit::step(acc, a, k + 1, w + 16);
  }
};

template <class Unit>
SHOAL_INLINE Unit make_unit(const Strip& /*strip*/, int /*vector*/) {
  return {};
}
template <>
SHOAL_INLINE WideningUnit make_unit(const Strip& strip, int vector) {
  return {{}, widened_columns(strip, vector)};
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
