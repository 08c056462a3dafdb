// SPDX-License-Identifier: Apache-2.0
// Kernels on one row: norms, rotary positions, softmax and sigmoid, bf16 and E4M3 conversion. One table per instruction-set path.
// Every function's bits depend on its arguments alone, and are the same on every path (simd.h).
#pragma once

#include <cstdint>

namespace shoal {

enum class Isa : uint8_t;

struct RowKernels {
  // out = (x * (1 / sqrt(mean of squares + epsilon))) * weight, [n]; weight may be null; out may be x.
  // Squares: chunk c of 16 columns goes to accumulator c % 4; (0 + 1) + (2 + 3), then the lanes as a tree.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int64_t n, float* out);
  // Rotates pairs (x[i], x[i + pairs]) by cos[i], sin[i], in place.
  void (*rope_halves)(float* x, const float* cos, const float* sin, int64_t pairs);
  // Rotates pairs (x[2i], x[2i + 1]).
  void (*rope_interleaved)(float* x, const float* cos, const float* sin, int64_t pairs);
  // In place, [n].
  void (*softmax)(float* x, int64_t n);
  void (*sigmoid)(float* x, int64_t n);
  void (*to_bf16)(const float* x, uint16_t* out, int64_t n);  // nearest even
  void (*from_bf16)(const uint16_t* x, float* out, int64_t n);
  void (*to_f8)(const float* x, uint8_t* out, int64_t n);  // nearest even, saturating
  void (*from_f8)(const uint8_t* x, float* out, int64_t n);
};

extern const RowKernels kRowKernelsPlain, kRowKernelsAvx2, kRowKernelsAvx512, kRowKernelsAvx512Bf16;
const RowKernels& row_kernels(Isa isa);

}  // namespace shoal
