// SPDX-License-Identifier: Apache-2.0
#include "engine/logit_kernels_code.h"

namespace shoal {

#if defined(__x86_64__)
const LogitKernels kLogitKernelsAvx2 = {logit_kernels::scan, logit_kernels::weigh};
#endif

}  // namespace shoal
