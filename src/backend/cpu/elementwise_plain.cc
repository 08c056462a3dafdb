// SPDX-License-Identifier: Apache-2.0
#define SHOAL_ISA_PLAIN
#include "backend/cpu/elementwise_kernels.h"

namespace shoal {
const RowKernels kRowKernelsPlain = SHOAL_ISA::kRowKernels;
}  // namespace shoal
