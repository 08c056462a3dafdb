// SPDX-License-Identifier: Apache-2.0
#define SHOAL_ISA_AMX
#include "backend/cpu/attention_kernels.h"

namespace shoal {
const AttentionKernels kAttentionKernelsAmx = SHOAL_ISA::kAttentionKernels;
}  // namespace shoal
