// SPDX-License-Identifier: Apache-2.0
// Multi-head latent attention; see mla.cc.
#pragma once

#include "model/attention.h"

namespace shoal {

std::unique_ptr<Attention> make_latent_attention(const ModelSpec& spec, const AttentionLayer& layer,
                                                 const std::string& prefix, WeightTable& weights);

}  // namespace shoal
