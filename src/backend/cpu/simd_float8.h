// SPDX-License-Identifier: Apache-2.0
// E4M3 numbers <-> F32x16 (simd.h), in the compiler's own vectors: the same
// text for every path. For files named *_<path>.cc only.
#pragma once

#include "backend/cpu/simd.h"

namespace shoal::SHOAL_ISA {
namespace {

typedef uint8_t Bytes16 __attribute__((vector_size(16)));
typedef uint32_t Words16 __attribute__((vector_size(64)));
typedef float Floats16 __attribute__((vector_size(64)));

SHOAL_INLINE F32x16 load16_f8(const uint8_t* p) {
  Bytes16 bytes;
  std::memcpy(&bytes, p, 16);
  const Words16 code = __builtin_convertvector(bytes, Words16);
  const Words16 magnitude = (code & 0x7fu) << 20;
  // Exponent 0 is read like any other, as (1 + m / 8) 2^-7; twice that, less
  // 2^-6, is its m 2^-9.
  const Floats16 normal = (Floats16)(magnitude + (120u << 23));
  const Floats16 subnormal = normal + normal - 0x1p-6f;
  const Words16 small = (Words16)(magnitude < (1u << 23));
  const Words16 nan = (Words16)((code & 0x7fu) == 0x7fu) & 0x7fc00000u;
  const Words16 bits = (small & (Words16)subnormal) | (~small & (Words16)normal) | nan | ((code & 0x80u) << 24);
  F32x16 result;
  std::memcpy(&result, &bits, 64);
  return result;
}
// Rounded to nearest even; beyond 448 it is 448.
SHOAL_INLINE void store16_f8(uint8_t* p, F32x16 x) {
  Words16 bits;
  std::memcpy(&bits, &x, 64);
  const Words16 magnitude = bits & 0x7fffffffu;
  const Words16 largest = (Words16)(magnitude > 0x43e00000u), nan = (Words16)(magnitude > 0x7f800000u);
  const Words16 clamped = (largest & 0x43e00000u) | (~largest & magnitude);
  const Words16 normal = ((clamped + 0x7ffffu + ((clamped >> 20) & 1u)) >> 20) - (120u << 3);
  const Words16 subnormal = (Words16)((Floats16)clamped + 0x1p14f) - 0x46800000u;  // last place of 2^14: 2^-9
  const Words16 small = (Words16)(clamped < 0x3c800000u);                          // below 2^-6
  const Words16 finite = (small & subnormal) | (~small & normal) | ((bits >> 24) & 0x80u);
  const Bytes16 bytes = __builtin_convertvector((nan & 0x7fu) | (~nan & finite), Bytes16);
  std::memcpy(p, &bytes, 16);
}
SHOAL_INLINE F32x16 load16_f8(const uint8_t* p, int64_t n) {
  if (n >= 16) return load16_f8(p);
  uint8_t lanes[16] = {};
  std::memcpy(lanes, p, static_cast<size_t>(n));
  return load16_f8(lanes);
}
SHOAL_INLINE void store16_f8(uint8_t* p, F32x16 x, int64_t n) {
  if (n >= 16) return store16_f8(p, x);
  uint8_t lanes[16];
  store16_f8(lanes, x);
  std::memcpy(p, lanes, static_cast<size_t>(n));
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
