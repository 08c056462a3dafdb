// SPDX-License-Identifier: Apache-2.0
#define SHOAL_ISA_PLAIN
#include "backend/cpu/gemm_kernels.h"

namespace shoal {
const GemmKernels kGemmPlain = SHOAL_ISA::make_kernels();
}  // namespace shoal
