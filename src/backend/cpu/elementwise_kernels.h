// SPDX-License-Identifier: Apache-2.0
// Bodies of RowKernels (elementwise.h), for elementwise_<path>.cc only.
#pragma once

#include "backend/cpu/elementwise.h"
#include "backend/cpu/simd_float8.h"

namespace shoal::SHOAL_ISA {
namespace {

inline void rms_norm(const float* x, const float* weight, float epsilon, int64_t n, float* out) {
  F32x16 squares[4] = {zero16(), zero16(), zero16(), zero16()};
  for (int64_t i = 0; i < n; i += 64) {
    for (int64_t lane = 0; lane < 4 && i + 16 * lane < n; ++lane) {
      const F32x16 value = load16(x + i + 16 * lane, n - i - 16 * lane);
      squares[lane] = fma16(value, value, squares[lane]);
    }
  }
  const float sum = reduce_add((squares[0] + squares[1]) + (squares[2] + squares[3]));
  const F32x16 inverse = set1(1.0f / __builtin_sqrtf(sum / static_cast<float>(n) + epsilon));
  for (int64_t i = 0; i < n; i += 16) {
    F32x16 value = load16(x + i, n - i) * inverse;
    if (weight) value = value * load16(weight + i, n - i);
    store16(out + i, value, n - i);
  }
}

inline void rope_halves(float* x, const float* cos, const float* sin, int64_t pairs) {
  for (int64_t i = 0; i < pairs; i += 16) {
    const int64_t left = pairs - i;
    const F32x16 a = load16(x + i, left), b = load16(x + pairs + i, left);
    const F32x16 c = load16(cos + i, left), s = load16(sin + i, left);
    store16(x + i, fma16(zero16() - b, s, a * c), left);
    store16(x + pairs + i, fma16(a, s, b * c), left);
  }
}

// Plain code: scalar operations round the same whether or not the compiler makes vectors of them.
inline void rope_interleaved(float* x, const float* cos, const float* sin, int64_t pairs) {
  for (int64_t i = 0; i < pairs; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = __builtin_fmaf(-b, sin[i], a * cos[i]);
    x[2 * i + 1] = __builtin_fmaf(a, sin[i], b * cos[i]);
  }
}

inline float maximum_of(const float* x, int64_t n) {
  float largest = x[0];
  for (int64_t i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

inline void softmax(float* x, int64_t n) {
  const F32x16 largest = set1(maximum_of(x, n));
  F32x16 sums = zero16();
  for (int64_t i = 0; i < n; i += 16) {
    store16(x + i, exp16(load16(x + i, n - i) - largest), n - i);
    sums += load16(x + i, n - i);  // read back: lanes past the end count as 0
  }
  const F32x16 sum = set1(reduce_add(sums));
  for (int64_t i = 0; i < n; i += 16) store16(x + i, load16(x + i, n - i) / sum, n - i);
}

inline void sigmoid(float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) store16(x + i, sigmoid16(load16(x + i, n - i)), n - i);
}

inline void to_bf16(const float* x, uint16_t* out, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) store16_bf16(out + i, load16(x + i, n - i), n - i);
}

inline void from_bf16(const uint16_t* x, float* out, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) store16(out + i, load16_bf16(x + i, n - i), n - i);
}

inline void to_f8(const float* x, uint8_t* out, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) store16_f8(out + i, load16(x + i, n - i), n - i);
}

inline void from_f8(const uint8_t* x, float* out, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) store16(out + i, load16_f8(x + i, n - i), n - i);
}

constexpr RowKernels kRowKernels = {.rms_norm = rms_norm,
                                    .rope_halves = rope_halves,
                                    .rope_interleaved = rope_interleaved,
                                    .softmax = softmax,
                                    .sigmoid = sigmoid,
                                    .to_bf16 = to_bf16,
                                    .from_bf16 = from_bf16,
                                    .to_f8 = to_f8,
                                    .from_f8 = from_f8};

}  // namespace
}  // namespace shoal::SHOAL_ISA
