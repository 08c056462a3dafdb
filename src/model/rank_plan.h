// SPDX-License-Identifier: Apache-2.0
// What a rank will hold and say, from the declarations that load it.
#pragma once

#include "model/decoder.h"
#include "model/model.h"

namespace shoal {

RankPlan make_rank_plan(const Decoder& decoder, const BuildContext& build, const Backend& backend);

}  // namespace shoal
