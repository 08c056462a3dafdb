// SPDX-License-Identifier: Apache-2.0
// Attention layers: grouped-query (Ainslie et al. 2023) and multi-head latent attention (DeepSeek-AI 2024,
// section 2.1). Both map the normed residual [tokens, hidden] to this rank's term of the output projection, over the
// ranks that work on the same tokens. Without context parallelism a layer does so by itself (`whole`); with it, the
// schemes of model/context_parallel.h put the layer's steps together.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/linear.h"
#include "model/spec.h"
#include "model/step_context.h"

namespace shoal {

class Attention {
 public:
  // Shape of the KV pages of this layer on this rank; v_dim 0: values are part of k.
  struct KvShape {
    int pool = 0;  // of kv_pools()
    int64_t kv_heads = 0;
    int64_t k_dim = 0;
    int64_t v_dim = 0;
  };
  // Of some rows: q [rows, heads, q_dim]; k and v as the cache takes them, v undefined where values are part of k.
  struct Projection {
    Tensor q;
    Tensor k;
    Tensor v;
  };
  // Queries of some heads over the positions that `share` holds of their sequences.
  struct PartTask {
    Tensor q;                         // [rows, heads.size(), q_dim]
    Range heads;                      // of this rank's
    KvLayer kv;                       // the KV heads of `heads`
    std::vector<SequenceSpan> spans;  // of rows of q, with the held pages
    PageShare share;
    bool prompt = true;  // role of the rows
  };

  virtual ~Attention() = default;
  Partial<Axis::kAttn> operator()(const Tensor& x, const KvLayer& kv, const StepContext& step) const;
  // Bias of the output projection, added once after the reduction; null for none.
  virtual const Tensor* output_bias() const = 0;
  virtual KvShape kv_shape() const = 0;

  // --- the steps of which context parallelism is made
  virtual Projection project(const Tensor& x, std::span<const int32_t> positions, const StepContext& step) const = 0;
  virtual AttentionPart part(const PartTask& task, const StepContext& step) const = 0;
  // Whether a task may have rows of one sequence only.
  virtual bool by_sequence(bool prompt, const StepContext& step) const = 0;
  // Joined parts of some heads -> [rows, heads.size() * v_dim], the input of the output projection.
  virtual Tensor values(const Tensor& joined, Range heads, bool prompt, const StepContext& step) const = 0;
  virtual const Tensor* sinks() const { return nullptr; }

  const AttentionLayer& layer() const { return layer_; }
  int pool() const { return pool_; }               // of KV pages
  int64_t heads() const { return heads_.size(); }  // on this rank
  // Heads of one context-parallel rank, of this rank's.
  Range head_part(int64_t rank) const { return even_part(heads(), rank, std::ssize(o_proj_)); }
  // Output projection of values of all heads of this rank, or of one context-parallel rank's part of them: f32 [rows, hidden], a term of
  // the sum over the attention group.
  Tensor output(const Tensor& values, Backend& backend) const;
  Tensor output_part(const Tensor& values, int64_t rank, Backend& backend) const {
    return backend.matmul_partial(values, *o_proj_[static_cast<size_t>(rank)]);
  }

 protected:
  Attention(const ModelSpec& spec, const AttentionLayer& layer, const std::string& prefix, WeightTable& weights);
  virtual Tensor whole(const Tensor& x, const KvLayer& kv, const StepContext& step) const = 0;

  AttentionLayer layer_;

 private:
  int pool_;     // of KV pages
  Range heads_;  // of the model's
  // Row-parallel [hidden, heads * v_dim], cut once more where context-parallel ranks divide the heads; null where one has none.
  std::vector<const Matrix*> o_proj_;
};

// `prefix`: such as "model.layers.0.self_attn.".
std::unique_ptr<Attention> make_attention(const ModelSpec& spec, const AttentionLayer& layer, const std::string& prefix,
                                          WeightTable& weights);

}  // namespace shoal
