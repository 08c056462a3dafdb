// SPDX-License-Identifier: Apache-2.0
#define SHOAL_ISA_AVX2
#include "backend/cpu/elementwise_kernels.h"

namespace shoal {
const RowKernels kRowKernelsAvx2 = SHOAL_ISA::kRowKernels;
}  // namespace shoal
