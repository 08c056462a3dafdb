// SPDX-License-Identifier: Apache-2.0
// Decoder: the layers of one stage on one rank, from token ids (or the previous stage's residual) to the residual
// stream, and on the last stage to logits. The residual is f32 [tokens, hidden], whole on every rank of the
// attention group.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "model/attention.h"
#include "model/moe.h"

namespace shoal {

// Pre-norm block (Vaswani et al. 2017; Zhang & Sennrich 2019 for RMS norm): x += attention(norm x); x += ffn(norm x).
class DecoderBlock {
 public:
  DecoderBlock(int64_t index, const BuildContext& build);
  void bind(Backend& backend) {
    if (moe_) moe_->bind(backend);
  }
  // `picks`: of a layer with experts.
  void operator()(const Tensor& x, const KvLayer& kv, const StepContext& step, LayerPicks* picks) const;

  const Attention& attention() const { return *attention_; }
  const MoeBlock* moe() const { return moe_ ? &*moe_ : nullptr; }
  MoeBlock* moe() { return moe_ ? &*moe_ : nullptr; }

 private:
  float epsilon_;
  const Tensor* attention_norm_;  // [hidden]
  const Tensor* ffn_norm_;        // [hidden]
  std::unique_ptr<Attention> attention_;
  std::optional<MoeBlock> moe_;
  Mlp mlp_;  // without moe_
};

class Decoder {
 public:
  Decoder(Range layers, const BuildContext& build);

  void bind(Backend& backend);
  // One step; `hidden` is the previous stage's residual, undefined on the first stage. `picks`: by layer, of layers
  // with experts.
  Tensor forward(const Tensor& hidden, const std::vector<KvLayer>& kv, const StepContext& step,
                 std::map<int64_t, LayerPicks>& picks) const;
  // f32 [logit_rows, vocab], whole on every rank of the attention group.
  Tensor logits(const Tensor& hidden, const StepContext& step) const;

  Range layers() const { return layers_; }
  const std::vector<DecoderBlock>& blocks() const { return blocks_; }
  MoeBlock& moe(int64_t layer) { return *blocks_.at(layer - layers_.begin).moe(); }
  bool first_stage() const { return layers_.begin == 0; }
  bool last_stage() const { return layers_.end == total_layers_; }

 private:
  Range layers_;
  int64_t total_layers_;
  float epsilon_;
  Range vocab_;                           // this rank's part
  std::vector<int64_t> vocab_columns_;    // of every rank of the attention group
  const Matrix* embed_tokens_ = nullptr;  // [vocab, hidden]; first stage
  std::vector<DecoderBlock> blocks_;
  const Tensor* norm_ = nullptr;  // [hidden]; last stage
  ColumnLinear lm_head_;          // [vocab, hidden]; last stage; the same memory where the model ties them
};

}  // namespace shoal
