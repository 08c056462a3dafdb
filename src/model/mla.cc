// SPDX-License-Identifier: Apache-2.0
// Multi-head latent attention (DeepSeek-AI 2024a, section 2.1). The cache holds, for each position, the normed latent
// (kv_lora_rank) and one rotated key part shared by all heads; the down-projections and this cache are whole on every
// rank, heads are cut.
//
// With kv_b_proj's rows of head h called UK_h [nope, lora] and UV_h [v, lora], two forms give the same attention:
//   expanded: k_h = [UK_h c ; k_rope], v_h = UV_h c for every cached latent c, then ordinary attention (prompts: many
//   queries share it) absorbed: q'_h = [UK_h^T q_nope ; q_rope] attends over [c ; k_rope] itself, out_h = UV_h (sum of
//   p c)  (generated positions)
// Which one is a matter of the position's role in its request, never of the chunk, so that a result does not depend on
// batching.
#include "model/mla.h"

#include <array>

namespace shoal {

namespace {

// Both latent norms use this, whatever rms_norm_eps says.
constexpr float kLatentNormEpsilon = 1e-6f;

class LatentAttention : public Attention {
 public:
  LatentAttention(const ModelSpec& spec, const AttentionLayer& layer, const std::string& prefix, WeightTable& weights)
      : layer_(layer), pool_(kv_pool_of(spec, layer)), mla_(*layer.mla) {
    const Dim hidden{"hidden", spec.hidden};
    const Dim kv_a{"kv_lora + rope", mla_.kv_lora_rank + mla_.rope_dim};
    const Dim heads{"heads", layer.heads * layer.head_dim, layer.head_dim, Cut::kAttnTp};
    heads_ = weights.local(heads).size() / layer.head_dim;
    if (mla_.q_lora_rank > 0) {
      const Dim q_lora{"q_lora", mla_.q_lora_rank};
      down_.weight = weights.matrix(MatrixKind::kColumn,
                                    {weights.part(prefix + "q_a_proj", q_lora, hidden),
                                     weights.part(prefix + "kv_a_proj_with_mqa", kv_a, hidden)},
                                    weights.local(hidden), weights.compute());
      q_a_norm_ = weights.vector(prefix + "q_a_layernorm.weight", q_lora);
      q_proj_.weight = weights.column(prefix + "q_b_proj", heads, q_lora);
    } else {
      down_.weight = weights.column(prefix + "kv_a_proj_with_mqa", kv_a, hidden);
      q_proj_.weight = weights.column(prefix + "q_proj", heads, hidden);
    }
    kv_a_norm_ = weights.vector(prefix + "kv_a_layernorm.weight", Dim{"kv_lora", mla_.kv_lora_rank});
    declare_kv_b(prefix + "kv_b_proj", weights);
    o_proj_.weight =
        weights.row(prefix + "o_proj", hidden, Dim{"heads", layer.heads * layer.v_dim, layer.v_dim, Cut::kAttnTp});
  }

  Partial<Axis::kAttnTp> operator()(const Tensor& x, const KvLayer& kv, const StepContext& step) const override {
    Backend& backend = step.backend;
    const Tensor down = down_(backend, x);
    const Tensor q = queries(x, down, step).view({x.rows(), heads_, layer_.head_dim});
    backend.rope(q, step.batch.positions, step.rope, mla_.nope_dim);
    backend.kv_write(kv, latents(down, step), Tensor(), step.batch.kv[pool_].slots);
    return o_proj_(backend, attend(q, kv, step).view({x.rows(), heads_ * layer_.v_dim}));
  }

  const Tensor* output_bias() const override { return nullptr; }
  KvShape kv_shape() const override { return {pool_, 1, mla_.kv_lora_rank + mla_.rope_dim, 0}; }

 private:
  void declare_kv_b(const std::string& name, WeightTable& weights) {
    const int64_t per_head = mla_.nope_dim + layer_.v_dim;
    const Dim out{"heads", layer_.heads * per_head, per_head, Cut::kAttnTp};
    const Dim lora{"kv_lora", mla_.kv_lora_rank};
    kv_b_.weight = weights.column(name, out, lora);
    const Range rows = weights.local(out);
    const MatrixSource stored{.tensor = name + ".weight", .out = out.size, .in = lora.size};
    const MatrixSource turned{.tensor = name + ".weight", .out = lora.size, .in = out.size, .transposed = true};
    for (int64_t row = rows.begin; row < rows.end; row += per_head) {
      key_up_turned_.push_back(weights.matrix(MatrixKind::kColumn, {{turned, {0, lora.size}}},
                                              {row, row + mla_.nope_dim}, weights.compute()));
      value_up_.push_back(weights.matrix(MatrixKind::kColumn, {{stored, {row + mla_.nope_dim, row + per_head}}},
                                         {0, lora.size}, weights.compute()));
    }
  }

  Tensor queries(const Tensor& x, const Tensor& down, const StepContext& step) const {
    if (mla_.q_lora_rank == 0) return q_proj_(step.backend, x);
    const Tensor q_a = down.slice_columns(0, mla_.q_lora_rank);
    return q_proj_(step.backend, step.backend.rms_norm(q_a, *q_a_norm_, kLatentNormEpsilon));
  }

  // What the cache holds: [tokens, 1, kv_lora + rope], normed latent and rotated key part.
  Tensor latents(const Tensor& down, const StepContext& step) const {
    const int64_t begin = mla_.q_lora_rank, middle = begin + mla_.kv_lora_rank, end = middle + mla_.rope_dim;
    const Tensor latent = step.backend.rms_norm(down.slice_columns(begin, middle), *kv_a_norm_, kLatentNormEpsilon);
    const Tensor k_rope = down.slice_columns(middle, end);
    step.backend.rope(k_rope.view({down.rows(), 1, mla_.rope_dim}), step.batch.positions, step.rope, 0);
    return step.backend.concat_columns(std::array{latent, k_rope}).view({down.rows(), 1, end - begin});
  }

  // Splits every span by role, computes both forms and puts the rows back in batch order. [tokens, heads, v_dim].
  Tensor attend(const Tensor& q, const KvLayer& kv, const StepContext& step) const {
    std::vector<SequenceSpan> prompt, generated;
    int64_t prompt_rows = 0;
    for (const SequenceSpan& span : step.batch.kv[pool_].spans) {
      const int64_t rows = step.deterministic ? 0 : span.prompt_rows;
      prompt_rows += rows;
      if (rows > 0) prompt.push_back({span.row_begin, rows, span.context - (span.rows - rows), rows, span.pages});
      if (rows < span.rows) generated.push_back({span.row_begin + rows, span.rows - rows, span.context, 0, span.pages});
    }
    if (prompt_rows == 0) return absorbed(q, kv, generated, step);
    const Tensor out = step.backend.empty(step.backend.activation(), {q.rows(), heads_ * layer_.v_dim});
    for (const SequenceSpan& span : prompt) {
      const Tensor rows = expanded(q.slice_rows(span.row_begin, span.row_begin + span.rows), kv, span, step);
      step.backend.scatter_rows(out, row_ids({&span, 1}), rows.view({span.rows, heads_ * layer_.v_dim}));
    }
    if (!generated.empty()) {
      const std::vector<int32_t> ids = row_ids(generated);
      const Tensor rows = absorbed(gather(q, ids, step), kv, packed(generated), step);
      step.backend.scatter_rows(out, ids, rows.view({rows.rows(), heads_ * layer_.v_dim}));
    }
    return out;
  }

  // q [rows, heads, head_dim] of one span.
  Tensor expanded(const Tensor& q, const KvLayer& kv, const SequenceSpan& span, const StepContext& step) const {
    Backend& backend = step.backend;
    const Tensor latent = backend.kv_read(kv, span);  // [context, kv_lora + rope], as the cache rounded it
    const Tensor k_rope = latent.slice_columns(mla_.kv_lora_rank, mla_.kv_lora_rank + mla_.rope_dim);
    const Tensor up = kv_b_(backend, latent.slice_columns(0, mla_.kv_lora_rank));  // [context, heads * (nope + v)]
    std::vector<Tensor> keys, values;
    for (int64_t head = 0, column = 0; head < heads_; ++head, column += mla_.nope_dim + layer_.v_dim) {
      keys.push_back(up.slice_columns(column, column + mla_.nope_dim));
      keys.push_back(k_rope);
      values.push_back(up.slice_columns(column + mla_.nope_dim, column + mla_.nope_dim + layer_.v_dim));
    }
    const Tensor k = backend.concat_columns(keys).view({span.context, heads_, layer_.head_dim});
    const Tensor v = backend.concat_columns(values).view({span.context, heads_, layer_.v_dim});
    return attend_whole(q, k, v, kv, span, step);
  }

  // Attention over k, v of all positions of one sequence, through pages of their own.
  Tensor attend_whole(const Tensor& q, const Tensor& k, const Tensor& v, const KvLayer& kv, SequenceSpan span,
                      const StepContext& step) const {
    Backend& backend = step.backend;
    const int64_t block = kv.tokens_per_block(), pages = (span.context + block - 1) / block;
    const KvLayer whole{backend.empty(kv.k.dtype(), {pages, heads_, block, layer_.head_dim}),
                        backend.empty(kv.k.dtype(), {pages, heads_, block, layer_.v_dim})};
    std::vector<int32_t> slots(span.context);
    for (int64_t i = 0; i < span.context; ++i) slots[i] = static_cast<int32_t>(i);
    backend.kv_write(whole, k, v, slots);
    span.row_begin = 0;
    span.pages.assign(slots.begin(), slots.begin() + pages);
    return backend.attention(q, whole, std::array{span}, {.scale = layer_.scale, .v_dim = layer_.v_dim});
  }

  Tensor absorbed(const Tensor& q, const KvLayer& kv, const std::vector<SequenceSpan>& spans,
                  const StepContext& step) const {
    Backend& backend = step.backend;
    const int64_t tokens = q.rows();
    const Tensor flat = q.view({tokens * heads_, layer_.head_dim});
    const Tensor q_latent = backend.matmul_heads(head_columns(q, 0, mla_.nope_dim, backend), resolve(key_up_turned_));
    const Tensor q_full = backend.concat_columns(std::array{q_latent.view({tokens * heads_, mla_.kv_lora_rank}),
                                                            flat.slice_columns(mla_.nope_dim, layer_.head_dim)});
    const Tensor out = backend.attention(q_full.view({tokens, heads_, mla_.kv_lora_rank + mla_.rope_dim}), kv, spans,
                                         {.scale = layer_.scale, .v_dim = mla_.kv_lora_rank});
    return backend.matmul_heads(out, resolve(value_up_));
  }

  // Columns [begin, end) of every head, [tokens, heads, end - begin].
  static Tensor head_columns(const Tensor& q, int64_t begin, int64_t end, Backend& backend) {
    const Tensor flat = q.view({q.rows() * q.size(1), q.size(2)});
    return backend.concat_columns(std::array{flat.slice_columns(begin, end)}).view({q.rows(), q.size(1), end - begin});
  }

  static Tensor gather(const Tensor& q, const std::vector<int32_t>& ids, const StepContext& step) {
    const Tensor rows = step.backend.gather_rows(q.view({q.rows(), q.row_elements()}), ids);
    return rows.view({rows.rows(), q.size(1), q.size(2)});
  }

  static std::vector<int32_t> row_ids(std::span<const SequenceSpan> spans) {
    std::vector<int32_t> ids;
    for (const SequenceSpan& span : spans)
      for (int64_t i = 0; i < span.rows; ++i) ids.push_back(static_cast<int32_t>(span.row_begin + i));
    return ids;
  }

  // The same spans over rows that were gathered one after the other.
  static std::vector<SequenceSpan> packed(std::vector<SequenceSpan> spans) {
    int64_t row = 0;
    for (SequenceSpan& span : spans) {
      span.row_begin = row;
      row += span.rows;
    }
    return spans;
  }

  static std::vector<Matrix> resolve(const std::vector<const Matrix*>& handles) {
    std::vector<Matrix> result;
    for (const Matrix* handle : handles) result.push_back(*handle);
    return result;
  }

  AttentionLayer layer_;
  int pool_;  // of KV pages
  MlaSpec mla_;
  int64_t heads_ = 0;                         // on this rank
  ColumnLinear down_;                         // [q_lora + kv_lora + rope, hidden], whole on every rank
  ColumnLinear q_proj_;                       // [heads * (nope + rope), q_lora or hidden]
  ColumnLinear kv_b_;                         // [heads * (nope + v), kv_lora]
  RowLinear<Axis::kAttnTp> o_proj_;           // [hidden, heads * v]
  std::vector<const Matrix*> key_up_turned_;  // by head: [kv_lora, nope]
  std::vector<const Matrix*> value_up_;       // by head: [v, kv_lora]
  const Tensor* q_a_norm_ = nullptr;          // [q_lora]
  const Tensor* kv_a_norm_ = nullptr;         // [kv_lora]
};

}  // namespace

std::unique_ptr<Attention> make_latent_attention(const ModelSpec& spec, const AttentionLayer& layer,
                                                 const std::string& prefix, WeightTable& weights) {
  return std::make_unique<LatentAttention>(spec, layer, prefix, weights);
}

}  // namespace shoal
