// SPDX-License-Identifier: Apache-2.0
// simd.h's F32x16 as two ymm registers.
#pragma once

#include <immintrin.h>

namespace shoal::SHOAL_ISA {
namespace {

struct F32x16 {
  __m256 lo, hi;
};

SHOAL_INLINE __m256i bits_of(__m256 x) { return _mm256_castps_si256(x); }
SHOAL_INLINE __m256 floats_of(__m256i x) { return _mm256_castsi256_ps(x); }

SHOAL_INLINE F32x16 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
SHOAL_INLINE F32x16 load16(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
SHOAL_INLINE void store16(float* p, F32x16 x) {
  _mm256_storeu_ps(p, x.lo);
  _mm256_storeu_ps(p + 8, x.hi);
}
SHOAL_INLINE __m256i tail_mask(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
SHOAL_INLINE F32x16 load_tail(const float* p, int n) {
  return {_mm256_maskload_ps(p, tail_mask(n)), _mm256_maskload_ps(p + 8, tail_mask(n - 8))};
}
SHOAL_INLINE void store_tail(float* p, F32x16 x, int n) {
  _mm256_maskstore_ps(p, tail_mask(n), x.lo);
  _mm256_maskstore_ps(p + 8, tail_mask(n - 8), x.hi);
}

SHOAL_INLINE F32x16 operator+(F32x16 a, F32x16 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
SHOAL_INLINE F32x16 operator-(F32x16 a, F32x16 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
SHOAL_INLINE F32x16 operator*(F32x16 a, F32x16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
SHOAL_INLINE F32x16 operator/(F32x16 a, F32x16 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
SHOAL_INLINE F32x16 fma16(F32x16 a, F32x16 b, F32x16 c) {  // a * b + c
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
SHOAL_INLINE void add_product(F32x16& sum, F32x16 a, F32x16 b) { sum = fma16(a, b, sum); }
SHOAL_INLINE F32x16 sqrt16(F32x16 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
// The second operand if either is NaN.
SHOAL_INLINE F32x16 min16(F32x16 a, F32x16 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
SHOAL_INLINE F32x16 max16(F32x16 a, F32x16 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
// Per lane: a < b ? yes : no.
SHOAL_INLINE F32x16 select_less(F32x16 a, F32x16 b, F32x16 yes, F32x16 no) {
  return {_mm256_blendv_ps(no.lo, yes.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(no.hi, yes.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
SHOAL_INLINE __m256 pow2_of_shifted(__m256 x) {
  return floats_of(_mm256_slli_epi32(_mm256_add_epi32(bits_of(x), _mm256_set1_epi32(127)), 23));
}
// 2^n for x = n + 1.5 * 2^23.
SHOAL_INLINE F32x16 pow2_of_shifted(F32x16 x) { return {pow2_of_shifted(x.lo), pow2_of_shifted(x.hi)}; }

// Tree: lane i with i + 8, then + 4, + 2, + 1.
SHOAL_INLINE float reduce_add(F32x16 x) {
  const __m256 eight = _mm256_add_ps(x.lo, x.hi);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
SHOAL_INLINE float reduce_max(F32x16 x) {
  const __m256 eight = _mm256_max_ps(x.lo, x.hi);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// Eight bf16 in both halves; then one instruction moves each to the top of its lane.
SHOAL_INLINE __m256 widen_bf16(const uint16_t* p) {
  const __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i to_top = _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7,  //
                                          -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
  return floats_of(_mm256_shuffle_epi8(twice, to_top));
}
SHOAL_INLINE F32x16 load16_bf16(const uint16_t* p) { return {widen_bf16(p), widen_bf16(p + 8)}; }
SHOAL_INLINE __m256 round_bf16(__m256 x) {
  const __m256i bits = bits_of(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256 chosen = _mm256_blendv_ps(floats_of(rounded), floats_of(quiet), _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return floats_of(_mm256_and_si256(bits_of(chosen), _mm256_set1_epi32(static_cast<int>(0xffff0000))));
}
// Rounded to nearest even bf16, kept as f32.
SHOAL_INLINE F32x16 round_bf16(F32x16 x) { return {round_bf16(x.lo), round_bf16(x.hi)}; }
SHOAL_INLINE void store16_bf16(uint16_t* p, F32x16 x) {
  const F32x16 rounded = round_bf16(x);
  const __m256i packed =
      _mm256_packus_epi32(_mm256_srli_epi32(bits_of(rounded.lo), 16), _mm256_srli_epi32(bits_of(rounded.hi), 16));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
SHOAL_INLINE __m256i load_bits(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
// Sixteen pairs of bf16 (low, high): all the low ones, all the high ones.
SHOAL_INLINE F32x16 low_of_pairs(const uint32_t* p) {
  return {floats_of(_mm256_slli_epi32(load_bits(p), 16)), floats_of(_mm256_slli_epi32(load_bits(p + 8), 16))};
}
SHOAL_INLINE F32x16 high_of_pairs(const uint32_t* p) {
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000));
  return {floats_of(_mm256_and_si256(load_bits(p), mask)), floats_of(_mm256_and_si256(load_bits(p + 8), mask))};
}

SHOAL_INLINE void transpose8(__m256 (&rows)[8]) {
  __m256 a[8], b[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      b[i + 2 * h] = _mm256_shuffle_ps(a[i + h], a[i + 2 + h], 0x44);
      b[i + 2 * h + 1] = _mm256_shuffle_ps(a[i + h], a[i + 2 + h], 0xee);
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    rows[c] = _mm256_permute2f128_ps(b[c], b[4 + c], 0x20);
    rows[4 + c] = _mm256_permute2f128_ps(b[c], b[4 + c], 0x31);
  }
}
// Sixteen rows to columns: lane j of row(i) goes to target[j * stride + i].
template <class Row>
SHOAL_INLINE void turn16(const Row& row, float* target, int64_t stride) {
#pragma GCC unroll 4
  for (int quarter = 0; quarter < 4; ++quarter) {
    const int first = quarter % 2 * 8, lane = quarter / 2 * 8;
    __m256 block[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const F32x16 x = row(first + i);
      block[i] = lane == 0 ? x.lo : x.hi;
    }
    transpose8(block);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) _mm256_storeu_ps(target + (lane + i) * stride + first, block[i]);
  }
}
// Rows to columns: lane j of rows[i] goes to lane i of rows[j].
SHOAL_INLINE void transpose16(F32x16 (&rows)[16]) {
  __m256 quarter[2][2][8];  // rows / 8, lanes / 8
  for (int i = 0; i < 16; ++i) {
    quarter[i / 8][0][i % 8] = rows[i].lo;
    quarter[i / 8][1][i % 8] = rows[i].hi;
  }
  for (auto& half : quarter)
    for (auto& block : half) transpose8(block);
  for (int i = 0; i < 16; ++i) rows[i] = {quarter[0][i / 8][i % 8], quarter[1][i / 8][i % 8]};
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
