// SPDX-License-Identifier: Apache-2.0
// Mixture of experts (Shazeer et al. 2017; fine-grained and shared experts: DeepSeek-AI 2024): the router chooses
// experts for each token, the placement says which slot, and so which rank, computes each.
//
// Two ways to bring tokens and experts together; which one follows from the layout:
//   *reduce*:   all ranks of the stage hold the same tokens; each computes its own experts, one all-reduce adds them
//   up. *exchange*: ranks are homes of different tokens (attention data parallel), or rows must stay apart
//   (`deterministic`): dispatch
//               sends a token once to each rank it needs, combine brings the results home. The ranks that share a
//               sequence's heads are each home to a part of its tokens and gather the rows afterwards.
// Either way what a call brings to a rank is bounded (parallel/moe_load.h): where a router piles more on one, the tokens go in several calls.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/expert_moves.h"
#include "model/linear.h"
#include "model/slot_table.h"
#include "model/spec.h"
#include "model/step_context.h"
#include "parallel/moe_load.h"

namespace shoal {

// Where a layer is being built.
struct BuildContext {
  const ModelSpec& spec;
  const ModelOptions& options;
  const Mesh& mesh;
  int rank;
  WeightTable& weights;
};

class MoeBlock {
 public:
  // Layer `index` of the model; tensor names begin with `prefix`, such as "model.layers.0.".
  MoeBlock(int64_t index, const std::string& prefix, const BuildContext& build);

  // Call once the weights are loaded: collects this rank's expert matrices.
  void bind(Backend& backend);

  // y [tokens, hidden], the normed residual -> what is added to the residual, whole. Adds to `picks`.
  Tensor operator()(const Tensor& y, const StepContext& step, LayerPicks& picks) const;

  const Placement& placement() const { return *placement_; }
  const std::shared_ptr<const Placement>& shared_placement() const { return placement_; }
  int64_t ep_rank() const { return at_.moe_ep; }
  bool exchanges() const { return exchanges_; }

  // Between two uses: what a slot holds, and another placement, whose new experts are in `changes`.
  ExpertWeights weights(int64_t local_slot) const;
  void place(std::shared_ptr<const Placement> placement, std::span<const LayerFlip::Change> changes, Backend& backend);
  // Room for one expert of this layer's shape, declared as a weight.
  struct Expert {
    const Matrix* gate_up = nullptr;
    const Matrix* down = nullptr;
    const Tensor* gate_up_bias = nullptr;
    ExpertWeights loaded() const;
  };
  Expert declare_room(WeightTable& weights) const;
  // Layers that are equal here have experts of the same shape.
  std::pair<int64_t, bool> shape() const { return {layer_.ffn, layer_.expert_bias}; }

 private:
  Expert declare_expert(int64_t expert, WeightTable& weights) const;
  Expert declare_stacked(int64_t expert, WeightTable& weights) const;
  Routing route(const Tensor& y, Backend& backend) const;
  Tensor reduced(const Tensor& y, const Routing& routing, const StepContext& step, LayerPicks& picks) const;
  Tensor local_experts(const Tensor& y, const Routing& routing, const StepContext& step, LayerPicks& picks) const;
  Tensor exchanged(const Tensor& y, const Routing& routing, const StepContext& step, LayerPicks& picks) const;
  std::optional<Tensor> exchange_call(const Tensor& y, const Routing& routing, const StepContext& step,
                                      LayerPicks& picks) const;
  template <typename Call>
  Tensor in_calls(Range rows, int64_t parts, const StepContext& step, const Call& call) const;
  int32_t some_slot() const;
  void count(const Routing& routing, const StepContext& step, LayerPicks& picks) const;
  int64_t calls(std::span<const int64_t> home_tokens) const;

  MoeLayer layer_;
  int64_t hidden_;
  int64_t max_tokens_;  // per call, summed over ranks; 0: no bound
  Coordinates at_;
  GridSizes sizes_;
  bool exchanges_;
  std::string experts_block_;  // tensor names of the routed experts begin so
  std::shared_ptr<const Placement> placement_;
  MoeLoad most_;                             // of a call, for any rank: what steps' memory is planned for
  ColumnLinear router_;                      // [experts, hidden], f32
  const Tensor* correction_bias_ = nullptr;  // [experts]
  const Tensor* down_bias_ = nullptr;        // [experts, hidden], whole on every rank: the token's home adds it
  std::optional<Mlp> shared_;
  std::vector<Expert> declared_;  // by local slot
  ExpertMatrices experts_;        // by local slot
  std::optional<SlotTable> slots_;
};

}  // namespace shoal
