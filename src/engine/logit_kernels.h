// SPDX-License-Identifier: Apache-2.0
// LogitKernels: the loops over a row of logits (logit_kernels_code.h), compiled once for each instruction-set path.
#pragma once

#include <cstdint>

namespace shoal {

struct LogitKernels {
  static constexpr int64_t kBlock = 512;
  // For each kBlock logits of a row of `count`: the largest, the sum of exp(logit - largest), and with scale > 0 the sum of exp((logit - largest) * scale).
  void (*scan)(const float* logits, int64_t count, float scale, float* maxima, float* sums, float* scaled_sums);
  // out[i] = exp((logits[i] - largest) * scale), 0 far below; logits[i] <= largest. `out` has room for a multiple of 16.
  void (*weigh)(const float* logits, int64_t count, float largest, float scale, float* out);
};

extern const LogitKernels kLogitKernelsPlain;
#if defined(__x86_64__)
extern const LogitKernels kLogitKernelsAvx2;
extern const LogitKernels kLogitKernelsAvx512;
#endif

}  // namespace shoal
