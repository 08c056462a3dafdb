// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/attention.h"

#include "backend/cpu/isa.h"

namespace shoal {

const AttentionKernels& attention_kernels(Isa isa) {
  return select_isa(isa, kAttentionKernelsPlain, kAttentionKernelsAvx2, kAttentionKernelsAvx512,
                    kAttentionKernelsAvx512Bf16, kAttentionKernelsAvx512, kAttentionKernelsAmx);
}

}  // namespace shoal
