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

#include <algorithm>
#include <array>
#include <numeric>

#include "base/whole.h"

namespace shoal {

namespace {

// Both latent norms use this, whatever rms_norm_eps says.
constexpr float kLatentNormEpsilon = 1e-6f;

// Heads whose keys and values are expanded together: those of all heads of a long prompt would take many times the latents' memory.
constexpr int64_t kHeadsTogether = 4;

class LatentAttention : public Attention {
 public:
  LatentAttention(const ModelSpec& spec, const AttentionLayer& layer, const std::string& prefix, WeightTable& weights)
      : Attention(spec, layer, prefix, weights), mla_(*layer.mla) {
    const Dim hidden{"hidden", spec.hidden};
    const Dim kv_a{"kv_lora + rope", mla_.kv_lora_rank + mla_.rope_dim};
    const Dim heads{"heads", layer.heads * layer.head_dim, layer.head_dim, Cut::kAttnTp};
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
  }

  Tensor whole(const Tensor& x, const KvLayer& kv, const StepContext& step) const override {
    const auto [q, latent, none] = project(x, step.batch.positions, step);
    step.backend.kv_write(kv, latent, none, step.batch.kv[pool()].slots);
    return attend(q, kv, step).view({x.rows(), heads() * layer_.v_dim});
  }

  Projection project(const Tensor& x, std::span<const int32_t> positions, const StepContext& step) const override {
    const Tensor down = down_(step.backend, x);
    const Tensor q = queries(x, down, step).view({x.rows(), heads(), layer_.head_dim});
    step.backend.rope(q, positions, step.rope, mla_.nope_dim);
    return {q, latents(down, positions, step), Tensor()};
  }

  AttentionPart part(const PartTask& task, const StepContext& step) const override {
    return expands(task.prompt, step) ? expanded_part(task, step) : absorbed_part(task, step);
  }
  // One sequence's keys are there at a time.
  bool by_sequence(bool prompt, const StepContext& step) const override { return expands(prompt, step); }

  Tensor values(const Tensor& joined, Range heads, bool prompt, const StepContext& step) const override {
    const Tensor out = expands(prompt, step) ? joined : step.backend.matmul_heads(joined, resolve(value_up_, heads));
    return out.view({out.rows(), out.row_elements()});
  }

  const Tensor* output_bias() const override { return nullptr; }
  KvShape kv_shape() const override { return {pool(), 1, mla_.kv_lora_rank + mla_.rope_dim, 0}; }

 private:
  static bool expands(bool prompt, const StepContext& step) { return prompt && !step.deterministic; }

  // kv_b_proj's rows of a few heads.
  struct KvUp {
    Range heads;
    ColumnLinear weight;  // [heads * (nope + v), kv_lora]
  };

  void declare_kv_b(const std::string& name, WeightTable& weights) {
    const int64_t per_head = mla_.nope_dim + layer_.v_dim;
    const Dim out{"heads", layer_.heads * per_head, per_head, Cut::kAttnTp};
    const Dim lora{"kv_lora", mla_.kv_lora_rank};
    const Range rows = weights.local(out);
    const MatrixSource stored{.tensor = name + ".weight", .out = out.size, .in = lora.size};
    for (int64_t rank = 0; rank < weights.mesh().sizes().context; ++rank) {
      const Range part = head_part(rank);
      for (int64_t head = part.begin; head < part.end; head += kHeadsTogether) {
        const Range few{head, std::min(head + kHeadsTogether, part.end)};
        const Range own{rows.begin + few.begin * per_head, rows.begin + few.end * per_head};
        kv_b_.push_back(
            {few, {weights.matrix(MatrixKind::kColumn, {{stored, own}}, {0, lora.size}, weights.compute())}});
      }
    }
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
  Tensor latents(const Tensor& down, std::span<const int32_t> positions, const StepContext& step) const {
    const int64_t begin = mla_.q_lora_rank, middle = begin + mla_.kv_lora_rank, end = middle + mla_.rope_dim;
    const Tensor latent = step.backend.rms_norm(down.slice_columns(begin, middle), *kv_a_norm_, kLatentNormEpsilon);
    const Tensor k_rope = down.slice_columns(middle, end);
    step.backend.rope(k_rope.view({down.rows(), 1, mla_.rope_dim}), positions, step.rope, 0);
    return step.backend.concat_columns(std::array{latent, k_rope}).view({down.rows(), 1, end - begin});
  }

  // Splits every span by role, computes both forms and puts the rows back in batch order. [tokens, heads, v_dim].
  Tensor attend(const Tensor& q, const KvLayer& kv, const StepContext& step) const {
    std::vector<SequenceSpan> prompt, generated;
    int64_t prompt_rows = 0;
    for (const SequenceSpan& span : step.batch.kv[pool()].spans) {
      const int64_t rows = step.deterministic ? 0 : span.prompt_rows;
      prompt_rows += rows;
      if (rows > 0) prompt.push_back({span.row_begin, rows, span.context - (span.rows - rows), rows, span.pages});
      if (rows < span.rows) generated.push_back({span.row_begin + rows, span.rows - rows, span.context, 0, span.pages});
    }
    if (prompt_rows == 0) return absorbed(q, kv, generated, step);
    const Tensor out = step.backend.empty(step.backend.activation(), {q.rows(), heads() * layer_.v_dim});
    for (const SequenceSpan& span : prompt) {
      const Tensor rows = expanded(q.slice_rows(span.row_begin, span.row_begin + span.rows), kv, span, step);
      step.backend.scatter_rows(out, row_ids({&span, 1}), rows.view({span.rows, heads() * layer_.v_dim}));
    }
    if (!generated.empty()) {
      const std::vector<int32_t> ids = row_ids(generated);
      const Tensor rows = absorbed(gather(q, ids, step), kv, packed(generated), step);
      step.backend.scatter_rows(out, ids, rows.view({rows.rows(), heads() * layer_.v_dim}));
    }
    return out;
  }

  // q [rows, heads, head_dim] of one span.
  Tensor expanded(const Tensor& q, const KvLayer& kv, SequenceSpan span, const StepContext& step) const {
    const Tensor latent = step.backend.kv_read(kv, span);
    std::vector<Tensor> values;
    span.row_begin = 0;
    for (const KvUp& up : kv_b_) {
      const KvLayer few = expand(latent, up, kv, step.backend);
      span.pages = first_pages(few);
      values.push_back(step.backend.attention(some_heads(q, up.heads, step.backend), few, std::array{span},
                                              {.scale = layer_.scale, .v_dim = layer_.v_dim}));
    }
    return side_by_side(values, step.backend).view({q.rows(), heads(), layer_.v_dim});
  }

  // Keys and values of a few heads for latents [positions, kv_lora + rope], in pages 0, 1, ... of their own.
  KvLayer expand(const Tensor& latent, const KvUp& up, const KvLayer& kv, Backend& backend) const {
    const Tensor k_rope = latent.slice_columns(mla_.kv_lora_rank, mla_.kv_lora_rank + mla_.rope_dim);
    const Tensor both = up.weight(backend, latent.slice_columns(0, mla_.kv_lora_rank));  // [.., heads * (nope + v)]
    std::vector<Tensor> keys, values;
    for (int64_t head = 0, column = 0; head < up.heads.size(); ++head, column += mla_.nope_dim + layer_.v_dim) {
      keys.push_back(both.slice_columns(column, column + mla_.nope_dim));
      keys.push_back(k_rope);
      values.push_back(both.slice_columns(column + mla_.nope_dim, column + mla_.nope_dim + layer_.v_dim));
    }
    const int64_t positions = latent.rows(), block = kv.tokens_per_block(), pages = ceil_div(positions, block);
    const Range& heads = up.heads;
    const Tensor k = backend.concat_columns(keys).view({positions, heads.size(), layer_.head_dim});
    const Tensor v = backend.concat_columns(values).view({positions, heads.size(), layer_.v_dim});
    // Latents of eight bits were rounded once; what is made of them is not rounded to eight bits again.
    const DType dtype = kv.k.dtype() == DType::kF8E4M3 ? DType::kBF16 : kv.k.dtype();
    const KvLayer whole{backend.empty(dtype, {pages, heads.size(), block, layer_.head_dim}),
                        backend.empty(dtype, {pages, heads.size(), block, layer_.v_dim})};
    std::vector<int32_t> slots(static_cast<size_t>(positions));
    std::iota(slots.begin(), slots.end(), 0);
    backend.kv_write(whole, k, v, slots);
    return whole;
  }

  AttentionPart expanded_part(const PartTask& task, const StepContext& step) const {
    std::vector<SequenceSpan> spans = task.spans;
    SequenceSpan held;  // what the longest of the spans sees
    for (const SequenceSpan& span : spans)
      if (span.context > held.context) held = span;
    held.context = task.share.held_before(held.context, task.kv.tokens_per_block());
    const Tensor latent = step.backend.kv_read(task.kv, held);
    std::vector<Tensor> values, maxima, sums;
    for (const KvUp& up : kv_b_) {
      if (up.heads.end <= task.heads.begin || task.heads.end <= up.heads.begin) continue;
      const KvLayer few = expand(latent, up, task.kv, step.backend);
      for (SequenceSpan& span : spans) span.pages = first_pages(few);
      const Range of_task{up.heads.begin - task.heads.begin, up.heads.end - task.heads.begin};
      const AttentionPart part =
          step.backend.attention_part(some_heads(task.q, of_task, step.backend), few, spans,
                                      {.scale = layer_.scale, .v_dim = layer_.v_dim}, task.share);
      values.push_back(part.values);
      maxima.push_back(part.maxima);
      sums.push_back(part.sums);
    }
    return {side_by_side(values, step.backend).view({task.q.rows(), task.heads.size(), layer_.v_dim}),
            side_by_side(maxima, step.backend), side_by_side(sums, step.backend)};
  }

  // [tokens, some heads, ...] of [tokens, heads, ...].
  static Tensor some_heads(const Tensor& q, Range heads, Backend& backend) {
    if (heads.size() == q.size(1)) return q;
    const Tensor flat = q.view({q.rows(), q.row_elements()});
    const Tensor columns = flat.slice_columns(heads.begin * q.size(2), heads.end * q.size(2));
    return backend.concat_columns(std::array{columns}).view({q.rows(), heads.size(), q.size(2)});
  }

  // Rows one after the other, [tokens, columns of all].
  static Tensor side_by_side(std::vector<Tensor>& parts, Backend& backend) {
    for (Tensor& part : parts) part = part.view({part.rows(), part.row_elements()});
    return parts.size() == 1 ? parts.front() : backend.concat_columns(parts);
  }

  static std::vector<int32_t> first_pages(const KvLayer& layer) {
    std::vector<int32_t> pages(static_cast<size_t>(layer.k.rows()));
    std::iota(pages.begin(), pages.end(), 0);
    return pages;
  }

  Tensor absorbed(const Tensor& q, const KvLayer& kv, const std::vector<SequenceSpan>& spans,
                  const StepContext& step) const {
    const Tensor out = step.backend.attention(absorb(q, {0, heads()}, step.backend), kv, spans,
                                              {.scale = layer_.scale, .v_dim = mla_.kv_lora_rank});
    return step.backend.matmul_heads(out, resolve(value_up_, {0, heads()}));
  }

  AttentionPart absorbed_part(const PartTask& task, const StepContext& step) const {
    return step.backend.attention_part(absorb(task.q, task.heads, step.backend), task.kv, task.spans,
                                       {.scale = layer_.scale, .v_dim = mla_.kv_lora_rank}, task.share);
  }

  // Queries of some heads -> what they are in the space of latents, [rows, heads, kv_lora + rope].
  Tensor absorb(const Tensor& q, Range heads, Backend& backend) const {
    const int64_t rows = q.rows() * heads.size();
    const Tensor flat = q.view({rows, layer_.head_dim});
    const Tensor latent =
        backend.matmul_heads(head_columns(q, 0, mla_.nope_dim, backend), resolve(key_up_turned_, heads));
    const Tensor full = backend.concat_columns(
        std::array{latent.view({rows, mla_.kv_lora_rank}), flat.slice_columns(mla_.nope_dim, layer_.head_dim)});
    return full.view({q.rows(), heads.size(), mla_.kv_lora_rank + mla_.rope_dim});
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

  static std::vector<Matrix> resolve(const std::vector<const Matrix*>& handles, Range heads) {
    std::vector<Matrix> result;
    for (int64_t head = heads.begin; head < heads.end; ++head) result.push_back(*handles[static_cast<size_t>(head)]);
    return result;
  }

  MlaSpec mla_;
  ColumnLinear down_;                         // [q_lora + kv_lora + rope, hidden], whole on every rank
  ColumnLinear q_proj_;                       // [heads * (nope + rope), q_lora or hidden]
  std::vector<KvUp> kv_b_;                    // in order of heads; none crosses the parts of context-parallel ranks
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
