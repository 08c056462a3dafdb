// SPDX-License-Identifier: Apache-2.0
#define SHOAL_ISA_PLAIN
#include "backend/cpu/attention_kernels.h"

namespace shoal {
const AttentionKernels kAttentionKernelsPlain = SHOAL_ISA::kAttentionKernels;
}  // namespace shoal
