// SPDX-License-Identifier: Apache-2.0
#define SHOAL_ISA_AMX
#include "backend/cpu/gemm_amx.h"

namespace shoal {
const GemmKernels kGemmAmx = SHOAL_ISA::make_tile_kernels<2>();
const GemmKernels kGemmAmxBf16 = SHOAL_ISA::make_tile_kernels<1>();
}  // namespace shoal
