// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/elementwise.h"

#include "backend/cpu/isa.h"

namespace shoal {

const RowKernels& row_kernels(Isa isa) {
  return select_isa(isa, kRowKernelsPlain, kRowKernelsAvx2, kRowKernelsAvx512, kRowKernelsAvx512Bf16, kRowKernelsAvx512,
                    kRowKernelsAvx512Bf16);
}

}  // namespace shoal
