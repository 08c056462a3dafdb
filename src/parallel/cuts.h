// SPDX-License-Identifier: Apache-2.0
// How dimensions, layers and experts are cut over ranks. Pure. The parts of a cut cover it, do not overlap and follow
// the order of the group's ranks. Not here: which expert sits where (parallel/placement.h), and the limits of a model
// (model/model.h).
#pragma once

#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "tensor/dim.h"

namespace shoal {

// Units [floor(i*n/parts), floor((i+1)*n/parts)) of n: sizes differ by at most one, and cuts at 2, 4, 8 parts fall on
// the eighths of the summation rule (docs/architecture.md section 4, rule 1).
Range even_part(int64_t n, int64_t index, int64_t parts);
// First (n mod parts) parts hold one more: experts over EP ranks, layers over stages.
Range front_loaded_part(int64_t n, int64_t index, int64_t parts);

// The axis whose ranks share a dimension cut this way. Not for kNone and kExperts.
Axis axis_of(Cut cut);

// This rank's slice of `dim`, in elements. Whole for kNone; kExperts has no range and is refused.
// Heads are cut evenly (layout_problems in model/model.h refuses others before); FFN and vocabulary may be uneven.
// kKvHeads with fewer heads than ranks: one head, repeated on consecutive ranks.
// Worked example: 8 query heads, 2 KV heads of 64 on attn_tp 4: rank 1 has query elements [128, 256), KV elements [0,
// 64).
Range slice(const Dim& dim, const Mesh& mesh, int rank);

// Layers of each stage; `partition` (layers per stage, adding up to `layers`) overrides the front-loaded split when not
// empty.
std::vector<Range> stage_layers(int64_t layers, int stages, const std::vector<int64_t>& partition);

}  // namespace shoal
