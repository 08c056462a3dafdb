// SPDX-License-Identifier: Apache-2.0
// simd.h's F32x16 as four 128-bit vectors of the compiler's own vector extension: any processor.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace shoal::SHOAL_ISA {
namespace {

typedef float F4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));
typedef uint32_t U4 __attribute__((vector_size(16)));

struct F32x16 {
  F4 v[4];
};

// Applies an expression of `i` to each quarter.
#define SHOAL_QUARTERS(expression)                         \
  F32x16 result_;                                          \
  for (int i = 0; i < 4; ++i) result_.v[i] = (expression); \
  return result_

SHOAL_INLINE F4 set4(float x) { return F4{x, x, x, x}; }
SHOAL_INLINE F4 load4(const void* p) {
  F4 x;
  __builtin_memcpy(&x, p, 16);
  return x;
}
SHOAL_INLINE F4 select4(I4 mask, F4 yes, F4 no) { return (F4)((mask & (I4)yes) | (~mask & (I4)no)); }

SHOAL_INLINE F32x16 set1(float x) { SHOAL_QUARTERS(set4(x)); }
SHOAL_INLINE F32x16 load16(const float* p) { SHOAL_QUARTERS(load4(p + 4 * i)); }
SHOAL_INLINE void store16(float* p, F32x16 x) { __builtin_memcpy(p, &x, 64); }
SHOAL_INLINE F32x16 load_tail(const float* p, int n) {
  float lanes[16] = {};
  if (n > 0) std::memcpy(lanes, p, static_cast<size_t>(n) * 4);
  return load16(lanes);
}
SHOAL_INLINE void store_tail(float* p, F32x16 x, int n) {
  if (n > 0) std::memcpy(p, &x, static_cast<size_t>(n) * 4);
}

SHOAL_INLINE F32x16 operator+(F32x16 a, F32x16 b) { SHOAL_QUARTERS(a.v[i] + b.v[i]); }
SHOAL_INLINE F32x16 operator-(F32x16 a, F32x16 b) { SHOAL_QUARTERS(a.v[i] - b.v[i]); }
SHOAL_INLINE F32x16 operator*(F32x16 a, F32x16 b) { SHOAL_QUARTERS(a.v[i] * b.v[i]); }
SHOAL_INLINE F32x16 operator/(F32x16 a, F32x16 b) { SHOAL_QUARTERS(a.v[i] / b.v[i]); }

// a * b + c rounded once. In double the product is exact and the sum is rounded to 53 bits; rounding that to 24 bits
// differs from rounding once only if the 53-bit sum lies exactly between two floats or the result is subnormal. Those
// lanes are done again exactly.
SHOAL_INLINE float fma_lane(float a, float b, float c, uint32_t& again) {
  const double sum = static_cast<double>(a) * b + c;
  uint64_t bits;
  __builtin_memcpy(&bits, &sum, 8);
  const uint64_t exponent = (bits >> 52) & 0x7ff;
  again |= static_cast<uint32_t>((bits & 0x1fffffff) == 0x10000000) |
           static_cast<uint32_t>(exponent < 1023 - 126 && (bits << 1) != 0);
  return static_cast<float>(sum);
}
SHOAL_INLINE F32x16 fma16(F32x16 a, F32x16 b, F32x16 c) {
  F32x16 result;
  uint32_t again = 0;
  for (int i = 0; i < 4; ++i) {
    for (int lane = 0; lane < 4; ++lane) result.v[i][lane] = fma_lane(a.v[i][lane], b.v[i][lane], c.v[i][lane], again);
  }
  if (__builtin_expect(again == 0, 1)) return result;
  for (int i = 0; i < 4; ++i) {
    for (int lane = 0; lane < 4; ++lane) result.v[i][lane] = __builtin_fmaf(a.v[i][lane], b.v[i][lane], c.v[i][lane]);
  }
  return result;
}
SHOAL_INLINE F4 sqrt4(F4 x) {
  return F4{__builtin_sqrtf(x[0]), __builtin_sqrtf(x[1]), __builtin_sqrtf(x[2]), __builtin_sqrtf(x[3])};
}
SHOAL_INLINE void add_product(F32x16& sum, F32x16 a, F32x16 b) { sum = fma16(a, b, sum); }
SHOAL_INLINE F32x16 sqrt16(F32x16 a) { SHOAL_QUARTERS(sqrt4(a.v[i])); }
// The second operand if either is NaN.
SHOAL_INLINE F32x16 min16(F32x16 a, F32x16 b) { SHOAL_QUARTERS(select4(a.v[i] < b.v[i], a.v[i], b.v[i])); }
SHOAL_INLINE F32x16 max16(F32x16 a, F32x16 b) { SHOAL_QUARTERS(select4(a.v[i] > b.v[i], a.v[i], b.v[i])); }
// Per lane: a < b ? yes : no.
SHOAL_INLINE F32x16 select_less(F32x16 a, F32x16 b, F32x16 yes, F32x16 no) {
  SHOAL_QUARTERS(select4(a.v[i] < b.v[i], yes.v[i], no.v[i]));
}
// 2^n for x = n + 1.5 * 2^23.
SHOAL_INLINE F32x16 pow2_of_shifted(F32x16 x) { SHOAL_QUARTERS((F4)(((U4)x.v[i] + 127u) << 23)); }

// Tree: lane i with i + 8, then + 4, + 2, + 1.
SHOAL_INLINE float reduce_add(F32x16 x) {
  const F4 four = (x.v[0] + x.v[2]) + (x.v[1] + x.v[3]);
  return (four[0] + four[2]) + (four[1] + four[3]);
}
SHOAL_INLINE float max_lane(float a, float b) { return a > b ? a : b; }
SHOAL_INLINE float reduce_max(F32x16 x) {
  F4 four;
  for (int i = 0; i < 4; ++i) four[i] = max_lane(max_lane(x.v[0][i], x.v[2][i]), max_lane(x.v[1][i], x.v[3][i]));
  return max_lane(max_lane(four[0], four[2]), max_lane(four[1], four[3]));
}

SHOAL_INLINE F4 widen_bf16(const uint16_t* p) { return (F4)(U4{p[0], p[1], p[2], p[3]} << 16); }
SHOAL_INLINE F32x16 load16_bf16(const uint16_t* p) { SHOAL_QUARTERS(widen_bf16(p + 4 * i)); }
SHOAL_INLINE F4 round_bf16(F4 x) {
  const U4 bits = (U4)x;
  const U4 rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const auto nan = x != x;  // NOLINT(misc-redundant-expression)
  return (F4)((U4)select4(nan, (F4)(bits | 0x400000u), (F4)rounded) & 0xffff0000u);
}
// Rounded to nearest even bf16, kept as f32.
SHOAL_INLINE F32x16 round_bf16(F32x16 x) { SHOAL_QUARTERS(round_bf16(x.v[i])); }
SHOAL_INLINE void store16_bf16(uint16_t* p, F32x16 x) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<uint16_t>(((U4)round_bf16(x.v[i / 4]))[i % 4] >> 16);
}
// Sixteen pairs of bf16 (low, high): all the low ones, all the high ones.
SHOAL_INLINE F32x16 low_of_pairs(const uint32_t* p) { SHOAL_QUARTERS((F4)((U4)load4(p + 4 * i) << 16)); }
SHOAL_INLINE F32x16 high_of_pairs(const uint32_t* p) { SHOAL_QUARTERS((F4)((U4)load4(p + 4 * i) & 0xffff0000u)); }

// Rows to columns: lane j of rows[i] goes to lane i of rows[j].
SHOAL_INLINE void transpose16(F32x16 (&rows)[16]) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < i; ++j) {
      const float lane = rows[i].v[j / 4][j % 4];
      rows[i].v[j / 4][j % 4] = rows[j].v[i / 4][i % 4];
      rows[j].v[i / 4][i % 4] = lane;
    }
  }
}

#undef SHOAL_QUARTERS

}  // namespace
}  // namespace shoal::SHOAL_ISA
