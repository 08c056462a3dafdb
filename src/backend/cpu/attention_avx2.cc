// SPDX-License-Identifier: Apache-2.0
#define SHOAL_ISA_AVX2
#include "backend/cpu/attention_kernels.h"

namespace shoal {
const AttentionKernels kAttentionKernelsAvx2 = SHOAL_ISA::kAttentionKernels;
}  // namespace shoal
