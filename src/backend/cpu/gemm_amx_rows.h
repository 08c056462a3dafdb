// SPDX-License-Identifier: Apache-2.0
// What products by matrix tiles (gemm_amx.h) do by vectors: activations to bf16, fetching, joining sums; and a whole product of a
// single row, to the same bits, since tiles would wait for their sums at the end of each piece. For gemm_amx.cc only.
#pragma once

#include "backend/cpu/gemm_kernels.h"
#include "backend/cpu/simd_amx.h"

namespace shoal::SHOAL_ISA {
namespace {

static_assert(kUnitStep == kTileSide);  // a step: a tile's rows of weights, words of activations
constexpr int64_t kHalfStep = kUnitStep / 2;
constexpr int64_t kWeightsStride = kColumns * 4;

// Of each step: what rounding leaves, rounded itself (two planes), then the rounded values.
template <int kPlanes>
void convert_planes(const float* x, float scale, const GemmSegment* segments, int32_t count, uint32_t* out) {
  const F32x16 factor = set1(scale);
  for (int32_t s = 0; s < count; ++s) {
    const float* from = x + segments[s].begin;
    auto* to = reinterpret_cast<float*>(out + segments[s].first_unit * kPlanes);
    int64_t units = 0;
    for (int64_t left = segments[s].end - segments[s].begin; left > 0; left -= 32, from += 32, to += kPlanes * units) {
      units = left > 2 * kHalfStep ? kUnitStep : kHalfStep;
      const F32x16 first = load16(from, left) * factor, second = load16(from + 16, left - 16) * factor;
      if constexpr (kPlanes == 2)
        store16(to, round_pairs(first - round_bf16(first), second - round_bf16(second)), units);
      store16(to + (kPlanes - 1) * units, round_pairs(first, second), units);
    }
  }
}

// Of weights as many units as are computed, kNearBytes ahead of w. All of a step at once: between products, fetching holds up more.
SHOAL_INLINE void fetch_weights(const Strip& strip, const uint32_t* w, int64_t units) {
  const char* ahead = reinterpret_cast<const char*>(w) + kNearBytes;
  for (int64_t i = 0; i < units * kWeightsStride; i += kLine) {
    if (strip.far) __builtin_prefetch(ahead + kFarBytes + i, 0, 2);
    __builtin_prefetch(ahead + i, 0, 3);
  }
}

// To one row's sums, [kColumns], those of the slots before, nearest first; the result is kept in the last of these. Returns it.
SHOAL_INLINE float* join_row(float* sums, int combines) {
  if (combines == 0) return sums;
  float* to = sums - combines * kSlotFloats;
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    F32x16 sum = load16(sums + 16 * v);
    for (const float* slot = sums - kSlotFloats; slot >= to; slot -= kSlotFloats) sum = load16(slot + 16 * v) + sum;
    store16(to + 16 * v, sum);
  }
  return to;
}

// Adds a step of `units` to one row's sums, [kColumns].
template <int kPlanes>
SHOAL_INLINE void add_row_step(const Strip& strip, const uint32_t* a, const uint32_t* w, int64_t units, float* sums) {
  F32x16 even[kPlanes][kVectors], odd[kPlanes][kVectors];
#pragma GCC unroll 2
  for (int plane = 0; plane < kPlanes; ++plane) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) even[plane][v] = odd[plane][v] = zero16();
  }
  for (int64_t unit = 0; unit < units; ++unit, w += kColumns) {
    fetch_weights(strip, w, 1);
    F32x16 low[kPlanes], high[kPlanes];
#pragma GCC unroll 2
    for (int plane = 0; plane < kPlanes; ++plane) {
      const __m512i pair = _mm512_set1_epi32(static_cast<int>(a[plane * units + unit]));
      low[plane] = low_of(pair);
      high[plane] = high_of(pair);
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m512i pairs = _mm512_loadu_si512(w + 16 * v);
      const F32x16 first = low_of(pairs), second = high_of(pairs);
#pragma GCC unroll 2
      for (int plane = 0; plane < kPlanes; ++plane) {
        add_product(even[plane][v], low[plane], first);
        add_product(odd[plane][v], high[plane], second);
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    F32x16 sum = load16(sums + 16 * v);
#pragma GCC unroll 2
    for (int plane = 0; plane < kPlanes; ++plane) sum += even[plane][v] + odd[plane][v];
    store16(sums + 16 * v, sum);
  }
}

template <int kPlanes>
void run_row(const Strip& strip, const uint32_t* row) {
  const uint32_t* a = row + strip.row_offset;
  const uint32_t* w = strip.w;
  for (int i = 0; i < strip.piece_count; ++i) {
    const Piece& piece = strip.pieces[i];
    float* sums = strip.sums + piece.slot * kSlotFloats;
    if (!piece.resumes)
      for (int64_t c = 0; c < kColumns; c += 16) store16(sums + c, zero16());
    {
      const FlushSubnormals flush;
      for (int64_t left = piece.units; left > 0; left -= kUnitStep) {
        const int64_t units = left < kUnitStep ? kHalfStep : kUnitStep;
        add_row_step<kPlanes>(strip, a, w, units, sums);
        a += kPlanes * units;
        w += kColumns * units;
      }
    }
    join_row(sums, piece.combines);
  }
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
