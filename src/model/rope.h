// SPDX-License-Identifier: Apache-2.0
// Rotary position tables (Su et al. 2021) for every scaling of RopeSpec: linear (Chen et al. 2023), dynamic NTK, YaRN
// (Peng et al. 2023, section 3), Llama-3's piecewise one (Dubey et al. 2024).
#pragma once

#include <vector>

#include "backend/ops.h"
#include "model/spec.h"

namespace shoal {

// Angular frequency of each of rotary_dim / 2 pairs. `length`: for dynamic scaling, the sequence length so far; others
// ignore it.
std::vector<float> rope_frequencies(const RopeSpec& spec, int64_t length);

// cos and sin of positions [0, positions), times the attention factor. Dynamic scaling takes position + 1 as the
// length, so that a position's angle never depends on what follows it. Long tables take a while: `threads` share one.
RopeTable make_rope_table(const RopeSpec& spec, int64_t positions, Backend& backend, int threads = 1);
// Its memory only.
RopeTable reserve_rope_table(const RopeSpec& spec, int64_t positions, Backend& backend);

}  // namespace shoal
