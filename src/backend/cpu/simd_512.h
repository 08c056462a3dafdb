// SPDX-License-Identifier: Apache-2.0
// simd.h's F32x16 as one zmm register.
#pragma once

#include <immintrin.h>

namespace shoal::SHOAL_ISA {
namespace {

struct F32x16 {
  __m512 v;
};

SHOAL_INLINE F32x16 set1(float x) { return {_mm512_set1_ps(x)}; }
SHOAL_INLINE F32x16 load16(const float* p) { return {_mm512_loadu_ps(p)}; }
SHOAL_INLINE void store16(float* p, F32x16 x) { _mm512_storeu_ps(p, x.v); }
SHOAL_INLINE __mmask16 tail_mask(int n) { return static_cast<__mmask16>(n <= 0 ? 0 : (1u << n) - 1u); }
SHOAL_INLINE F32x16 load_tail(const float* p, int n) { return {_mm512_maskz_loadu_ps(tail_mask(n), p)}; }
SHOAL_INLINE void store_tail(float* p, F32x16 x, int n) { _mm512_mask_storeu_ps(p, tail_mask(n), x.v); }

SHOAL_INLINE F32x16 operator+(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
SHOAL_INLINE F32x16 operator-(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
SHOAL_INLINE F32x16 operator*(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
SHOAL_INLINE F32x16 operator/(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
SHOAL_INLINE F32x16 fma16(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }  // a * b + c
// sum = a * b + sum, in place: left to itself, the compiler spills what fills the registers.
SHOAL_INLINE void add_product(F32x16& sum, F32x16 a, F32x16 b) {
  __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
}
SHOAL_INLINE F32x16 sqrt16(F32x16 a) { return {_mm512_sqrt_ps(a.v)}; }
// The second operand if either is NaN.
SHOAL_INLINE F32x16 min16(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
SHOAL_INLINE F32x16 max16(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
// Per lane: a < b ? yes : no.
SHOAL_INLINE F32x16 select_less(F32x16 a, F32x16 b, F32x16 yes, F32x16 no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}
// 2^n for x = n + 1.5 * 2^23.
SHOAL_INLINE F32x16 pow2_of_shifted(F32x16 x) {
  const __m512i bits = _mm512_add_epi32(_mm512_castps_si512(x.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(bits, 23))};
}

// Tree: lane i with i + 8, then + 4, + 2, + 1.
SHOAL_INLINE float reduce_add(F32x16 x) {
  const __m256 high = _mm512_extractf32x8_ps(x.v, 1);
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
SHOAL_INLINE float reduce_max(F32x16 x) {
  const __m256 high = _mm512_extractf32x8_ps(x.v, 1);
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x.v), high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

SHOAL_INLINE F32x16 load16_bf16(const uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
// Rounded to nearest even bf16, kept as f32.
SHOAL_INLINE F32x16 round_bf16(F32x16 x) {
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i chosen = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), rounded, quiet);
  return {_mm512_castsi512_ps(_mm512_and_si512(chosen, _mm512_set1_epi32(static_cast<int>(0xffff0000))))};
}
SHOAL_INLINE void store16_bf16(uint16_t* p, F32x16 x) {
  const __m512i top = _mm512_srli_epi32(_mm512_castps_si512(round_bf16(x).v), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(top));
}
#if defined(SHOAL_BF16_PAIRS)
// Sixteen words of two bf16 each, rounded to nearest even, of 32 consecutive values; subnormals become 0, as they are to the instruction that
// multiplies pairs.
SHOAL_INLINE F32x16 round_pairs(F32x16 first, F32x16 second) {
  return {_mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(second.v, first.v))};
}
#endif
// Sixteen pairs of bf16 (low, high): all the low ones, all the high ones.
SHOAL_INLINE F32x16 low_of_pairs(const uint32_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))};
}
SHOAL_INLINE F32x16 high_of_pairs(const uint32_t* p) {
  return {
      _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(static_cast<int>(0xffff0000))))};
}

// Rows to columns: lane j of rows[i] goes to lane i of rows[j].
SHOAL_INLINE void transpose16(F32x16 (&rows)[16]) {
  __m512 a[16], b[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
    a[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 4) {  // b[4 * q + c]: columns 4 * lane + c of rows 4 * q to 4 * q + 3
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m512d low = _mm512_castps_pd(a[i + h]), high = _mm512_castps_pd(a[i + 2 + h]);
      b[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      b[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512 first = _mm512_shuffle_f32x4(b[c], b[4 + c], 0x88),
                 second = _mm512_shuffle_f32x4(b[c], b[4 + c], 0xdd);
    const __m512 third = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0x88);
    const __m512 fourth = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0xdd);
    rows[c].v = _mm512_shuffle_f32x4(first, third, 0x88);
    rows[4 + c].v = _mm512_shuffle_f32x4(second, fourth, 0x88);
    rows[8 + c].v = _mm512_shuffle_f32x4(first, third, 0xdd);
    rows[12 + c].v = _mm512_shuffle_f32x4(second, fourth, 0xdd);
  }
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
