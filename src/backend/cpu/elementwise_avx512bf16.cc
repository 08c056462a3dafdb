// SPDX-License-Identifier: Apache-2.0
#define SHOAL_ISA_AVX512BF16
#include "backend/cpu/elementwise_kernels.h"

namespace shoal {
const RowKernels kRowKernelsAvx512Bf16 = SHOAL_ISA::kRowKernels;
}  // namespace shoal
