// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.h"

namespace shoal {

DecoderBlock::DecoderBlock(int64_t index, const BuildContext& build) : epsilon_(build.spec.norm_epsilon) {
  const DecoderLayer& layer = build.spec.layers[index];
  const std::string prefix = build.spec.prefix + "model.layers." + std::to_string(index) + ".";
  const Dim hidden{"hidden", build.spec.hidden};
  attention_norm_ = build.weights.vector(prefix + "input_layernorm.weight", hidden);
  ffn_norm_ = build.weights.vector(prefix + "post_attention_layernorm.weight", hidden);
  attention_ = make_attention(build.spec, layer.attention, prefix + "self_attn.", build.weights);
  if (layer.moe) {
    moe_.emplace(index, prefix, build);
  } else {
    mlp_ = Mlp(build.weights, prefix + layer.dense.block, hidden, Dim{"ffn", layer.dense.ffn, 1, Cut::kFfnTp});
  }
}

void DecoderBlock::operator()(const Tensor& x, const KvLayer& kv, const StepContext& step, LayerPicks* picks) const {
  Backend& backend = step.backend;
  // A rank without tokens still takes part where tokens are exchanged.
  if (x.rows() > 0) {
    const Tensor out = step.attn.all_reduce((*attention_)(backend.rms_norm(x, *attention_norm_, epsilon_), kv, step));
    if (attention_->output_bias()) backend.add_bias(out, *attention_->output_bias());
    backend.add(x, out);
  }
  if (moe_) {
    const Tensor routed = (*moe_)(backend.rms_norm(x, *ffn_norm_, epsilon_), step, *picks);
    backend.add(x, routed);
  } else if (x.rows() > 0) {
    const Tensor out = step.ffn_tp.all_reduce(mlp_(backend, backend.rms_norm(x, *ffn_norm_, epsilon_)));
    backend.add(x, out);
  }
}

Decoder::Decoder(Range layers, const BuildContext& build)
    : layers_(layers),
      total_layers_(static_cast<int64_t>(build.spec.layers.size())),
      epsilon_(build.spec.norm_epsilon) {
  const ModelSpec& spec = build.spec;
  WeightTable& weights = build.weights;
  const Dim hidden{"hidden", spec.hidden}, vocab{"vocab", spec.vocab, 1, Cut::kVocab};
  const std::string embedding = spec.prefix + "model.embed_tokens";
  vocab_ = weights.local(vocab);
  const std::vector<int> sharers = build.mesh.group(Axis::kAttn, build.rank);
  for (const int rank : sharers) vocab_columns_.push_back(slice(vocab, build.mesh, rank).size());
  if (first_stage()) embed_tokens_ = weights.column(embedding, vocab, hidden);
  for (int64_t layer = layers.begin; layer < layers.end; ++layer) blocks_.emplace_back(layer, build);
  if (!last_stage()) return;
  norm_ = weights.vector(spec.prefix + "model.norm.weight", hidden);
  if (spec.tied_embeddings && first_stage()) {
    lm_head_.weight = embed_tokens_;
  } else {
    lm_head_.weight = weights.column(spec.tied_embeddings ? embedding : spec.prefix + "lm_head", vocab, hidden);
  }
}

void Decoder::bind(Backend& backend) {
  for (DecoderBlock& block : blocks_) block.bind(backend);
}

Tensor Decoder::forward(const Tensor& hidden, const std::vector<KvLayer>& kv, const StepContext& step,
                        std::map<int64_t, LayerPicks>& picks) const {
  Tensor x = hidden;
  if (first_stage()) {
    Partial<Axis::kAttn> rows(step.backend.embedding(step.batch.tokens, *embed_tokens_, vocab_));
    // Adding the other ranks' zeros copies the owner's row.
    x = step.attn.all_reduce(std::move(rows));
  }
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const auto layer_picks = picks.find(layers_.begin + static_cast<int64_t>(i));
    blocks_[i](x, kv[i], step, layer_picks == picks.end() ? nullptr : &layer_picks->second);
  }
  return x;
}

Tensor Decoder::logits(const Tensor& hidden, const StepContext& step) const {
  Backend& backend = step.backend;
  const Tensor rows = backend.gather_rows(hidden, step.batch.logit_rows);
  const Tensor local = lm_head_(backend, backend.rms_norm(rows, *norm_, epsilon_));
  if (step.attn.size() == 1) return local;
  int64_t vocab = 0;
  for (const int64_t columns : vocab_columns_) vocab += columns;
  const Tensor whole = backend.empty(DType::kF32, {local.rows(), vocab});
  step.attn.comm().all_gather_columns(local, vocab_columns_, whole);
  return whole;
}

}  // namespace shoal
