// SPDX-License-Identifier: Apache-2.0
// Inner loops over a row of logits, written over sixteen lanes with the compiler's vector type, so that each instruction-set path does the same
// operations in the same order (docs/numerics.md): multiplications and additions rounded one by one, no library call.
// Included by the file of each path only. Not here: blocks, ids, drawing (logit_blocks.h).
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#include "engine/logit_kernels.h"

namespace shoal {
namespace logit_kernels {
namespace {  // of each path its own

using F16 = float __attribute__((vector_size(64)));
using I16 = int32_t __attribute__((vector_size(64)));

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr int64_t kLanes = 16;

inline F16 splat(float value) { return F16{} + value; }

// `lanes` of them, the rest minus infinity.
inline F16 load(const float* values, int64_t lanes) {
  F16 v = splat(kMinusInfinity);
  if (lanes >= kLanes) {
    std::memcpy(&v, values, sizeof(v));
  } else {
    std::memcpy(&v, values, static_cast<size_t>(lanes) * sizeof(float));
  }
  return v;
}

// exp(x) for x <= 0 within 2 ulp, 0 below -87.3, NaN for NaN: x = n * ln 2 + r, a polynomial in r (Cephes' expf), times 2^n by its exponent bits.
inline F16 exp16(F16 x) {
  const F16 low = splat(-87.3f);
  const F16 inside = x < low ? low : x;
  const F16 shift = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, which stands in the low bits
  const F16 shifted = inside * splat(1.44269504f) + shift;
  const F16 n = shifted - shift;
  const F16 r = (inside - n * splat(0.693359375f)) - n * splat(-2.12194440e-4f);
  F16 p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  p = (p * r) * r + r + splat(1.0f);
  I16 bits, exponent;
  std::memcpy(&bits, &p, sizeof(bits));
  std::memcpy(&exponent, &shifted, sizeof(exponent));
  bits += exponent << 23;
  std::memcpy(&p, &bits, sizeof(p));
  return x < low ? F16{} : p;
}

inline F16 larger(F16 a, F16 b) { return b > a ? b : a; }

inline float largest_lane(F16 v) {
  float best = v[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) best = v[lane] > best ? v[lane] : best;
  return best;
}

inline float sum_lanes(F16 v) {
  float sums[kLanes];
  std::memcpy(sums, &v, sizeof(v));
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  return sums[0];
}

inline float block_maximum(const float* logits, int64_t count) {
  F16 best[2] = {splat(kMinusInfinity), splat(kMinusInfinity)};
  for (int64_t i = 0; i < count; i += 2 * kLanes) {
    best[0] = larger(best[0], load(logits + i, count - i));
    if (i + kLanes < count) best[1] = larger(best[1], load(logits + i + kLanes, count - i - kLanes));
  }
  return largest_lane(larger(best[0], best[1]));
}

// The compiler sees two loops, one with scale 1.
inline float block_sum(const float* logits, int64_t count, float largest, float scale) {
  F16 sums[2] = {F16{}, F16{}};
  const F16 top = splat(largest), factor = splat(scale);
  for (int64_t i = 0; i < count; i += 2 * kLanes) {
    sums[0] += exp16((load(logits + i, count - i) - top) * factor);
    if (i + kLanes < count) sums[1] += exp16((load(logits + i + kLanes, count - i - kLanes) - top) * factor);
  }
  return sum_lanes(sums[0] + sums[1]);
}

inline void scan(const float* logits, int64_t count, float scale, float* maxima, float* sums, float* scaled_sums) {
  for (int64_t block = 0; block * LogitKernels::kBlock < count; ++block) {
    const float* values = logits + block * LogitKernels::kBlock;
    const int64_t left = count - block * LogitKernels::kBlock;
    const int64_t size = left < LogitKernels::kBlock ? left : LogitKernels::kBlock;
    const float largest = block_maximum(values, size);
    const bool none = largest == kMinusInfinity;
    maxima[block] = largest;
    sums[block] = none ? 0.0f : block_sum(values, size, largest, 1.0f);
    if (scale > 0.0f) scaled_sums[block] = none ? 0.0f : block_sum(values, size, largest, scale);
  }
}

inline void weigh(const float* logits, int64_t count, float largest, float scale, float* out) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const F16 weights = exp16((load(logits + i, count - i) - splat(largest)) * splat(scale));
    std::memcpy(out + i, &weights, sizeof(weights));
  }
}

}  // namespace
}  // namespace logit_kernels
}  // namespace shoal
