// SPDX-License-Identifier: Apache-2.0
#include "model/attention.h"

#include <cmath>

#include "model/context_parallel.h"
#include "model/mla.h"

namespace shoal {

Attention::Attention(const ModelSpec& spec, const AttentionLayer& layer, const std::string& prefix,
                     WeightTable& weights)
    : layer_(layer), pool_(kv_pool_of(spec, layer)), heads_(weights.local(Dim{"heads", layer.heads, 1, Cut::kAttnTp})) {
  const Dim hidden{"hidden", spec.hidden};
  const Dim in{"heads", layer.heads * layer.v_dim, layer.v_dim, Cut::kAttnTp};
  o_proj_.resize(static_cast<size_t>(weights.mesh().sizes().context));
  for (int64_t rank = 0; rank < std::ssize(o_proj_); ++rank) {
    const Range part = head_part(rank);
    if (part.size() == 0) continue;
    const Range columns{(heads_.begin + part.begin) * layer.v_dim, (heads_.begin + part.end) * layer.v_dim};
    o_proj_[static_cast<size_t>(rank)] =
        weights.matrix(MatrixKind::kRow, {weights.part(prefix + "o_proj", hidden, in)}, columns, weights.compute());
  }
}

Partial<Axis::kAttn> Attention::operator()(const Tensor& x, const KvLayer& kv, const StepContext& step) const {
  if (step.context) return context_parallel_attention(*this, x, kv, step);
  return Partial<Axis::kAttn>(output(whole(x, kv, step), step.backend));
}

Tensor Attention::output(const Tensor& values, Backend& backend) const {
  Tensor sum;
  for (int64_t rank = 0; rank < std::ssize(o_proj_); ++rank) {
    const Range part = head_part(rank);
    if (part.size() == 0) continue;
    const Tensor columns = values.slice_columns(part.begin * layer_.v_dim, part.end * layer_.v_dim);
    const Tensor term = output_part(columns, rank, backend);
    if (sum.defined()) {
      backend.add(sum, term);
    } else {
      sum = term;
    }
  }
  return sum;
}

namespace {

class GroupedQueryAttention : public Attention {
 public:
  GroupedQueryAttention(const ModelSpec& spec, const AttentionLayer& layer, const std::string& prefix,
                        WeightTable& weights)
      : Attention(spec, layer, prefix, weights), epsilon_(spec.norm_epsilon) {
    const Dim hidden{"hidden", spec.hidden};
    const Dim heads{"heads", layer.heads * layer.head_dim, layer.head_dim, Cut::kAttnTp};
    const Dim kv_heads{"kv_heads", layer.kv_heads * layer.head_dim, layer.head_dim, Cut::kKvHeads};
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
    if (layer.o_bias) o_bias_ = weights.vector(prefix + "o_proj.bias", hidden);
    if (layer.qk_norm == QkNorm::kWeightedBeforeRope) {
      const Dim head_dim{"head_dim", layer.head_dim};
      q_norm_ = weights.vector(prefix + "q_norm.weight", head_dim);
      k_norm_ = weights.vector(prefix + "k_norm.weight", head_dim);
    }
    if (layer.sinks) sinks_ = weights.vector(prefix + "sinks", Dim{"heads", layer.heads, 1, Cut::kAttnTp});
  }

  Tensor whole(const Tensor& x, const KvLayer& kv, const StepContext& step) const override {
    const auto [q, k, v] = project(x, step.batch.positions, step);
    step.backend.kv_write(kv, k, v, step.batch.kv[pool()].slots);
    AttentionSpec spec = this->spec();
    if (sinks_) spec.sinks = *sinks_;
    const Tensor out = step.backend.attention(q, kv, step.batch.kv[pool()].spans, spec);
    return out.view({x.rows(), heads() * layer_.v_dim});
  }

  Projection project(const Tensor& x, std::span<const int32_t> positions, const StepContext& step) const override {
    const int64_t q_columns = heads() * layer_.head_dim, kv_columns = kv_heads_ * layer_.head_dim;
    const Tensor qkv = qkv_(step.backend, x);
    const Tensor q = qkv.slice_columns(0, q_columns).view({x.rows(), heads(), layer_.head_dim});
    const Tensor k = qkv.slice_columns(q_columns, q_columns + kv_columns).view({x.rows(), kv_heads_, layer_.head_dim});
    const Tensor v = qkv.slice_columns(q_columns + kv_columns, q_columns + 2 * kv_columns)
                         .view({x.rows(), kv_heads_, layer_.head_dim});
    position(q, k, positions, step);
    return {q, k, v};
  }

  AttentionPart part(const PartTask& task, const StepContext& step) const override {
    return step.backend.attention_part(task.q, task.kv, task.spans, spec(), task.share);
  }
  bool by_sequence(bool, const StepContext&) const override { return false; }

  Tensor values(const Tensor& joined, Range, bool, const StepContext&) const override {
    return joined.view({joined.rows(), joined.row_elements()});
  }

  const Tensor* sinks() const override { return sinks_; }
  const Tensor* output_bias() const override { return o_bias_; }
  KvShape kv_shape() const override { return {pool(), kv_heads_, layer_.head_dim, layer_.head_dim}; }

 private:
  AttentionSpec spec() const {
    return {.scale = layer_.scale, .v_dim = layer_.v_dim, .window = layer_.window, .chunk = layer_.chunk};
  }

  // Norms, rope and temperature of q and k, in place.
  void position(const Tensor& q, const Tensor& k, std::span<const int32_t> positions, const StepContext& step) const {
    Backend& backend = step.backend;
    if (layer_.qk_norm == QkNorm::kWeightedBeforeRope) {
      backend.rms_norm_inplace(q, *q_norm_, epsilon_);
      backend.rms_norm_inplace(k, *k_norm_, epsilon_);
    }
    if (layer_.rope) {
      backend.rope(q, positions, step.rope, 0);
      backend.rope(k, positions, step.rope, 0);
    }
    if (layer_.qk_norm == QkNorm::kWeightlessAfterRope) {
      backend.rms_norm_inplace(q, Tensor(), epsilon_);
      backend.rms_norm_inplace(k, Tensor(), epsilon_);
    }
    if (layer_.temperature_scale != 0.0f) backend.scale_rows(q, temperatures(positions));
  }

  std::vector<float> temperatures(std::span<const int32_t> positions) const {
    std::vector<float> result;
    for (const int32_t position : positions) {
      const float steps = std::floor((static_cast<float>(position) + 1.0f) / layer_.temperature_floor);
      result.push_back(std::log(steps + 1.0f) * layer_.temperature_scale + 1.0f);
    }
    return result;
  }

  float epsilon_;
  int64_t kv_heads_ = 0;            // on this rank
  ColumnLinear qkv_;                // [(heads + 2 kv_heads) * head_dim, hidden]
  const Tensor* o_bias_ = nullptr;  // [hidden]
  const Tensor* q_norm_ = nullptr;  // [head_dim]
  const Tensor* k_norm_ = nullptr;  // [head_dim]
  const Tensor* sinks_ = nullptr;   // [heads]
};

}  // namespace

std::unique_ptr<Attention> make_attention(const ModelSpec& spec, const AttentionLayer& layer, const std::string& prefix,
                                          WeightTable& weights) {
  if (layer.mla) return make_latent_attention(spec, layer, prefix, weights);
  return std::make_unique<GroupedQueryAttention>(spec, layer, prefix, weights);
}

}  // namespace shoal
