// SPDX-License-Identifier: Apache-2.0
#define SHOAL_ISA_AVX512
#include "backend/cpu/gemm_kernels.h"

namespace shoal {
const GemmKernels kGemmAvx512 = SHOAL_ISA::make_kernels();
}  // namespace shoal
