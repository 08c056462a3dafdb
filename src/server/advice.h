// SPDX-License-Identifier: Apache-2.0
// One sentence on what bounds the server, by rules on what happened between two samples some seconds apart; the first that holds speaks.
// Each names the figures that it rests on, and what can be done. Empty where no rule holds. A pure function of values.
#pragma once

#include <string>

#include "server/sample.h"

namespace shoal {

std::string advice(const Sample& before, const Sample& now);

}  // namespace shoal
