// SPDX-License-Identifier: Apache-2.0
#include "engine/logit_kernels_code.h"

namespace shoal {

const LogitKernels kLogitKernelsPlain = {logit_kernels::scan, logit_kernels::weigh};

}  // namespace shoal
