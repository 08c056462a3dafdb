// SPDX-License-Identifier: Apache-2.0
// Attention layers: grouped-query (Ainslie et al. 2023) and multi-head latent attention (DeepSeek-AI 2024,
// section 2.1). Both map the normed residual [tokens, hidden] to this rank's term of the output projection, over the
// ranks that share the heads.
#pragma once

#include <memory>
#include <string>

#include "model/linear.h"
#include "model/spec.h"
#include "model/step_context.h"

namespace shoal {

class Attention {
 public:
  virtual ~Attention() = default;
  virtual Partial<Axis::kAttnTp> operator()(const Tensor& x, const KvLayer& kv, const StepContext& step) const = 0;
  // Bias of the output projection, added once after the reduction; null for none.
  virtual const Tensor* output_bias() const = 0;
  // Shape of the KV pages of this layer on this rank; v_dim 0: values are part of k.
  struct KvShape {
    int pool = 0;  // of kv_pools()
    int64_t kv_heads = 0;
    int64_t k_dim = 0;
    int64_t v_dim = 0;
  };
  virtual KvShape kv_shape() const = 0;
};

// `prefix`: such as "model.layers.0.self_attn.".
std::unique_ptr<Attention> make_attention(const ModelSpec& spec, const AttentionLayer& layer, const std::string& prefix,
                                          WeightTable& weights);

}  // namespace shoal
