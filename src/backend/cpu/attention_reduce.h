// SPDX-License-Identifier: Apache-2.0
// Sums of the lanes of several vectors at once: out[i] = reduce_add(v[i]), bit for bit (the same tree: lane l with l + 8,
// + 4, + 2, + 1), with a few shuffles for all instead of four for each. kTile is how many accumulators fit the registers.
// For attention_<path>.cc only.
#pragma once

#include "backend/cpu/simd.h"

namespace shoal::SHOAL_ISA {
namespace {

#if defined(SHOAL_WIDE_VECTORS)

constexpr int kTile = 16;

struct AddLanes {
  static SHOAL_INLINE __m512 join(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
};
struct MaxLanes {
  static SHOAL_INLINE __m512 join(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
};

// Each step joins the two halves of a pair of vectors: what lies in place in one is blended, the rest is moved.
//   v0 = [a b], v8 = [c d] (halves)  ->  [a d] + [b c] = [a+b c+d]
template <class Lanes>
SHOAL_INLINE __m512 join_halves(__m512 a, __m512 b) {
  return Lanes::join(_mm512_mask_blend_ps(0xff00, a, b), _mm512_shuffle_f32x4(a, b, 0x4e));
}
template <class Lanes>
SHOAL_INLINE __m512 join_quarters(__m512 a, __m512 b) {
  const __m512i moved = _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
  return Lanes::join(_mm512_mask_blend_ps(0xf0f0, a, b), _mm512_permutex2var_ps(a, moved, b));
}
template <class Lanes>
SHOAL_INLINE __m512 join_eighths(__m512 a, __m512 b) {
  return Lanes::join(_mm512_mask_blend_ps(0xcccc, a, b), _mm512_shuffle_ps(a, b, 0x4e));
}
template <class Lanes>
SHOAL_INLINE __m512 join_neighbours(__m512 a, __m512 b) {
  const __m512 moved = _mm512_permute_ps(_mm512_mask_blend_ps(0x5555, a, b), 0xb1);
  return Lanes::join(_mm512_mask_blend_ps(0xaaaa, a, b), moved);
}

template <class Lanes>
SHOAL_INLINE F32x16 reduce_tile(const F32x16 (&v)[kTile]) {
  __m512 eight[8], four[4];
  for (int i = 0; i < 8; ++i) eight[i] = join_halves<Lanes>(v[i].v, v[i + 8].v);
  for (int i = 0; i < 4; ++i) four[i] = join_quarters<Lanes>(eight[i], eight[i + 4]);
  const __m512 even = join_eighths<Lanes>(four[0], four[2]);
  const __m512 odd = join_eighths<Lanes>(four[1], four[3]);
  return {join_neighbours<Lanes>(even, odd)};
}
SHOAL_INLINE void reduce_tile(const F32x16 (&v)[kTile], float* out) { store16(out, reduce_tile<AddLanes>(v)); }

#elif defined(SHOAL_ISA_AVX2)

constexpr int kTile = 4;

SHOAL_INLINE __m256 add_halves(F32x16 a, F32x16 b) {
  const __m256 x = _mm256_add_ps(a.lo, a.hi), y = _mm256_add_ps(b.lo, b.hi);
  return _mm256_add_ps(_mm256_blend_ps(x, y, 0xf0), _mm256_permute2f128_ps(x, y, 0x21));
}

SHOAL_INLINE void reduce_tile(const F32x16 (&v)[kTile], float* out) {
  const __m256 a = add_halves(v[0], v[1]), b = add_halves(v[2], v[3]);
  const __m256 two = _mm256_add_ps(_mm256_blend_ps(a, b, 0xcc), _mm256_shuffle_ps(a, b, 0x4e));
  const __m256 one = _mm256_add_ps(two, _mm256_permute_ps(two, 0xb1));  // 0 0 2 2 | 1 1 3 3
  const __m256 ordered = _mm256_permutevar8x32_ps(one, _mm256_setr_epi32(0, 4, 2, 6, 0, 4, 2, 6));
  _mm_storeu_ps(out, _mm256_castps256_ps128(ordered));
}

#else

constexpr int kTile = 4;

SHOAL_INLINE void reduce_tile(const F32x16 (&v)[kTile], float* out) {
  for (int i = 0; i < kTile; ++i) out[i] = reduce_add(v[i]);
}

#endif

}  // namespace
}  // namespace shoal::SHOAL_ISA
