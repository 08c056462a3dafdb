// SPDX-License-Identifier: Apache-2.0
// Context parallelism of one attention layer. The cache of a sequence is dealt over the context-parallel ranks by pages
// (tensor/page_share.h) from the moment it is written; every scheme starts and ends there:
//
//   ring     (Liu et al. 2023; with both roles of a step: Yang et al. 2024): each rank projects its own rows; their keys and values go to the
//            ranks of their pages. Then the ranks' pages travel round: at step s a rank attends over those of rank (own - s), while it has
//            them already sent on. Its rows' parts are joined by rank order and go through the output projection of all heads.
//   ulysses  (Jacobs et al. 2023): rows projected likewise; then an all-to-all gives each rank the queries of all rows, and another one the
//            keys and values of all positions, for its part of the heads; one attention, then the slice of the output projection that
//            belongs to these heads: the sum over ranks takes the place of the way back.
//   helix    (Bhatia et al. 2025): every rank projects all rows and attends over its own pages; an all-to-all over heads brings each rank
//            the parts of its heads, which it joins; output projection as for ulysses, over tp * cp ranks.
//
// A rank's term of the output projection is a term of the sum over the attention group, whatever the scheme. Parts are joined in rank
// order, so that a result does not depend on which rank a row was on, hence not on chunks or batch mates.
#pragma once

#include "model/attention.h"

namespace shoal {

// x [tokens, hidden], whole on every rank -> this rank's term, f32 [tokens, hidden].
Partial<Axis::kAttn> context_parallel_attention(const Attention& attention, const Tensor& x, const KvLayer& kv,
                                                const StepContext& step);

}  // namespace shoal
