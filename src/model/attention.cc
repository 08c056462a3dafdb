// SPDX-License-Identifier: Apache-2.0
#include "model/attention.h"

#include <cmath>

#include "model/mla.h"

namespace shoal {

namespace {

class GroupedQueryAttention : public Attention {
 public:
  GroupedQueryAttention(const ModelSpec& spec, const AttentionLayer& layer, const std::string& prefix,
                        WeightTable& weights)
      : layer_(layer), pool_(kv_pool_of(spec, layer)), epsilon_(spec.norm_epsilon) {
    const Dim hidden{"hidden", spec.hidden};
    const Dim heads{"heads", layer.heads * layer.head_dim, layer.head_dim, Cut::kAttnTp};
    const Dim kv_heads{"kv_heads", layer.kv_heads * layer.head_dim, layer.head_dim, Cut::kKvHeads};
    heads_ = weights.local(heads).size() / layer.head_dim;
    kv_heads_ = weights.local(kv_heads).size() / layer.head_dim;
    qkv_.weight = weights.matrix(
        MatrixKind::kColumn,
        {weights.part(prefix + "q_proj", heads, hidden), weights.part(prefix + "k_proj", kv_heads, hidden),
         weights.part(prefix + "v_proj", kv_heads, hidden)},
        weights.local(hidden), weights.compute());
    if (layer.qkv_bias)
      qkv_.bias = weights.vector({weights.vector_part(prefix + "q_proj.bias", heads),
                                  weights.vector_part(prefix + "k_proj.bias", kv_heads),
                                  weights.vector_part(prefix + "v_proj.bias", kv_heads)});
    o_proj_.weight = weights.row(prefix + "o_proj", hidden, heads);
    if (layer.o_bias) o_bias_ = weights.vector(prefix + "o_proj.bias", hidden);
    if (layer.qk_norm == QkNorm::kWeightedBeforeRope) {
      const Dim head_dim{"head_dim", layer.head_dim};
      q_norm_ = weights.vector(prefix + "q_norm.weight", head_dim);
      k_norm_ = weights.vector(prefix + "k_norm.weight", head_dim);
    }
    if (layer.sinks) sinks_ = weights.vector(prefix + "sinks", Dim{"heads", layer.heads, 1, Cut::kAttnTp});
  }

  Partial<Axis::kAttnTp> operator()(const Tensor& x, const KvLayer& kv, const StepContext& step) const override {
    Backend& backend = step.backend;
    const int64_t q_columns = heads_ * layer_.head_dim, kv_columns = kv_heads_ * layer_.head_dim;
    const Tensor qkv = qkv_(backend, x);
    const Tensor q = qkv.slice_columns(0, q_columns).view({x.rows(), heads_, layer_.head_dim});
    const Tensor k = qkv.slice_columns(q_columns, q_columns + kv_columns).view({x.rows(), kv_heads_, layer_.head_dim});
    const Tensor v = qkv.slice_columns(q_columns + kv_columns, q_columns + 2 * kv_columns)
                         .view({x.rows(), kv_heads_, layer_.head_dim});
    position(q, k, step);
    backend.kv_write(kv, k, v, step.batch.kv[pool_].slots);
    AttentionSpec spec{.scale = layer_.scale, .v_dim = layer_.v_dim, .window = layer_.window, .chunk = layer_.chunk};
    if (sinks_) spec.sinks = *sinks_;
    const Tensor out = backend.attention(q, kv, step.batch.kv[pool_].spans, spec);
    return o_proj_(backend, out.view({x.rows(), q_columns}));
  }

  const Tensor* output_bias() const override { return o_bias_; }
  KvShape kv_shape() const override { return {pool_, kv_heads_, layer_.head_dim, layer_.head_dim}; }

 private:
  // Norms, rope and temperature of q and k, in place.
  void position(const Tensor& q, const Tensor& k, const StepContext& step) const {
    Backend& backend = step.backend;
    if (layer_.qk_norm == QkNorm::kWeightedBeforeRope) {
      backend.rms_norm_inplace(q, *q_norm_, epsilon_);
      backend.rms_norm_inplace(k, *k_norm_, epsilon_);
    }
    if (layer_.rope) {
      backend.rope(q, step.batch.positions, step.rope, 0);
      backend.rope(k, step.batch.positions, step.rope, 0);
    }
    if (layer_.qk_norm == QkNorm::kWeightlessAfterRope) {
      backend.rms_norm_inplace(q, Tensor(), epsilon_);
      backend.rms_norm_inplace(k, Tensor(), epsilon_);
    }
    if (layer_.temperature_scale != 0.0f) backend.scale_rows(q, temperatures(step.batch.positions));
  }

  std::vector<float> temperatures(const std::vector<int32_t>& positions) const {
    std::vector<float> result;
    for (const int32_t position : positions) {
      const float steps = std::floor((static_cast<float>(position) + 1.0f) / layer_.temperature_floor);
      result.push_back(std::log(steps + 1.0f) * layer_.temperature_scale + 1.0f);
    }
    return result;
  }

  AttentionLayer layer_;
  int pool_;  // of KV pages
  float epsilon_;
  int64_t heads_ = 0, kv_heads_ = 0;  // on this rank
  ColumnLinear qkv_;                  // [(heads + 2 kv_heads) * head_dim, hidden]
  RowLinear<Axis::kAttnTp> o_proj_;   // [hidden, heads * head_dim]
  const Tensor* o_bias_ = nullptr;    // [hidden]
  const Tensor* q_norm_ = nullptr;    // [head_dim]
  const Tensor* k_norm_ = nullptr;    // [head_dim]
  const Tensor* sinks_ = nullptr;     // [heads]
};

}  // namespace

std::unique_ptr<Attention> make_attention(const ModelSpec& spec, const AttentionLayer& layer, const std::string& prefix,
                                          WeightTable& weights) {
  if (layer.mla) return make_latent_attention(spec, layer, prefix, weights);
  return std::make_unique<GroupedQueryAttention>(spec, layer, prefix, weights);
}

}  // namespace shoal
