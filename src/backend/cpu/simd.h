// SPDX-License-Identifier: Apache-2.0
// F32x16: sixteen floats on every path (one zmm, two ymm or four 128-bit vectors), so that each function here computes
// the same bits on each path: reductions add lanes in one fixed tree, `fma` rounds once everywhere, exp is one
// polynomial. For files named *_<path>.cc only. Each defines one of SHOAL_ISA_PLAIN, SHOAL_ISA_AVX2, SHOAL_ISA_AVX512,
// SHOAL_ISA_AVX512BF16, SHOAL_ISA_AMX, then includes its kernel templates. All of it has internal linkage, and no std:: templates: the
// linker must never choose a copy of a shared inline function that needs an instruction which the machine may lack.
// Kernel headers do the same:
//   namespace shoal::SHOAL_ISA { namespace { ...templates... } }
#pragma once

#include <cstdint>
#include <cstring>

#if defined(SHOAL_ISA_AMX)
#define SHOAL_ISA isa_amx
#elif defined(SHOAL_ISA_AVX512BF16)
#define SHOAL_ISA isa_avx512bf16
#elif defined(SHOAL_ISA_AVX512)
#define SHOAL_ISA isa_avx512
#elif defined(SHOAL_ISA_AVX2)
#define SHOAL_ISA isa_avx2
#elif defined(SHOAL_ISA_PLAIN)
#define SHOAL_ISA isa_plain
#else
#error "define SHOAL_ISA_<path> before including simd.h"
#endif

#define SHOAL_INLINE inline __attribute__((always_inline))

// What several paths have: instructions on bf16 pairs, and vectors of sixteen floats.
#if defined(SHOAL_ISA_AVX512BF16) || defined(SHOAL_ISA_AMX)
#define SHOAL_BF16_PAIRS
#endif
#if defined(SHOAL_BF16_PAIRS) || defined(SHOAL_ISA_AVX512)
#define SHOAL_WIDE_VECTORS
#endif

#if defined(SHOAL_WIDE_VECTORS)
#include "backend/cpu/simd_512.h"
#elif defined(SHOAL_ISA_AVX2)
#include "backend/cpu/simd_256.h"
#else
#include "backend/cpu/simd_128.h"
#endif

// What follows is the same text for every path.
namespace shoal::SHOAL_ISA {
namespace {

constexpr int kLine = 64;  // bytes of a cache line

SHOAL_INLINE F32x16 zero16() { return set1(0.0f); }
SHOAL_INLINE F32x16& operator+=(F32x16& a, F32x16 b) { return a = a + b; }
SHOAL_INLINE F32x16& operator*=(F32x16& a, F32x16 b) { return a = a * b; }

#if !defined(SHOAL_ISA_AVX2)  // which has its own, by quarters
// Sixteen rows to columns: lane j of row(i) goes to target[j * stride + i].
template <class Row>
SHOAL_INLINE void turn16(const Row& row, float* target, int64_t stride) {
  F32x16 rows[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) rows[i] = row(i);
  transpose16(rows);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) store16(target + i * stride, rows[i]);
}
#endif

// Any n: load16(p, n) and store16(p, x, n) touch the first min(n, 16) lanes only; missing lanes read as 0.
SHOAL_INLINE F32x16 load16(const float* p, int64_t n) {
  return n >= 16 ? load16(p) : load_tail(p, static_cast<int>(n));
}
SHOAL_INLINE void store16(float* p, F32x16 x, int64_t n) {
  if (n >= 16) {
    store16(p, x);
  } else {
    store_tail(p, x, static_cast<int>(n));
  }
}
SHOAL_INLINE F32x16 load16_bf16(const uint16_t* p, int64_t n) {
  if (n >= 16) return load16_bf16(p);
  uint16_t lanes[16] = {};
  std::memcpy(lanes, p, static_cast<size_t>(n) * 2);
  return load16_bf16(lanes);
}
SHOAL_INLINE void store16_bf16(uint16_t* p, F32x16 x, int64_t n) {
  if (n >= 16) return store16_bf16(p, x);
  uint16_t lanes[16];
  store16_bf16(lanes, x);
  std::memcpy(p, lanes, static_cast<size_t>(n) * 2);
}

// e^x within 2 ulp; 0 below -87.3 (so exp(-inf) is 0), grows no further above 88.3; NaN stays NaN.
// x = n ln2 + r, |r| <= ln2 / 2; e^r as a polynomial of degree 6 (Taylor coefficients, last ones adjusted to the
// interval).
SHOAL_INLINE F32x16 exp16(F32x16 x) {
  const F32x16 low = set1(-87.3f);
  const F32x16 magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, kept in the low mantissa bits
  const F32x16 clamped = min16(set1(88.3f), max16(low, x));
  const F32x16 shifted = fma16(clamped, set1(1.44269504f), magic);
  const F32x16 n = shifted - magic;
  F32x16 r = fma16(n, set1(-0.693359375f), clamped);
  r = fma16(n, set1(2.12194440e-4f), r);
  F32x16 p = set1(1.3888889e-3f);
  p = fma16(p, r, set1(8.3333333e-3f));
  p = fma16(p, r, set1(4.1666668e-2f));
  p = fma16(p, r, set1(1.6666667e-1f));
  p = fma16(p, r, set1(0.5f));
  p = fma16(p, r, set1(1.0f));
  p = fma16(p, r, set1(1.0f));
  return select_less(x, low, zero16(), p * pow2_of_shifted(shifted));
}

SHOAL_INLINE F32x16 sigmoid16(F32x16 x) { return set1(1.0f) / (set1(1.0f) + exp16(zero16() - x)); }
SHOAL_INLINE F32x16 silu16(F32x16 x) { return x / (set1(1.0f) + exp16(zero16() - x)); }

}  // namespace
}  // namespace shoal::SHOAL_ISA
