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
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/linear.h"
#include "model/spec.h"
#include "model/step_context.h"
#include "parallel/placement.h"

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
  // `prefix`: such as "model.layers.0.".
  MoeBlock(const MoeLayer& layer, const std::string& prefix, const BuildContext& build);

  // Call once the weights are loaded: collects this rank's expert matrices.
  void bind(Backend& backend);

  // y [tokens, hidden], the normed residual -> what is added to the residual, whole. `loads` [experts] += picks of the
  // tokens that this rank counts (each token is counted on one rank of the stage).
  Tensor operator()(const Tensor& y, const StepContext& step, std::vector<int64_t>& loads) const;

  const Placement& placement() const { return placement_; }
  int64_t ep_rank() const { return at_.moe_ep; }
  bool exchanges() const { return exchanges_; }

 private:
  struct Expert {
    const Matrix* gate_up = nullptr;
    const Matrix* down = nullptr;
    const Tensor* gate_up_bias = nullptr;
  };

  Expert declare_expert(const std::string& block, int64_t expert, WeightTable& weights) const;
  Routing route(const Tensor& y, Backend& backend) const;
  Tensor reduced(const Tensor& y, const Routing& routing, const StepContext& step) const;
  Tensor exchanged(const Tensor& y, const Routing& routing, const StepContext& step) const;
  Tensor exchange_call(const Tensor& y, const Routing& routing, const StepContext& step) const;
  void count(const Routing& routing, const StepContext& step, std::vector<int64_t>& loads) const;
  int64_t calls(const StepContext& step) const;

  MoeLayer layer_;
  int64_t hidden_;
  int64_t max_tokens_;  // per call, summed over ranks; 0: no bound
  Coordinates at_;
  GridSizes sizes_;
  bool exchanges_;
  Placement placement_;
  ColumnLinear router_;                      // [experts, hidden], f32
  const Tensor* correction_bias_ = nullptr;  // [experts]
  const Tensor* down_bias_ = nullptr;        // [experts, hidden], whole on every rank: the token's home adds it
  std::optional<Mlp> shared_;
  std::vector<Expert> declared_;  // by local slot
  ExpertMatrices experts_;        // by local slot
  Tensor global_slots_;           // i32 [experts]: slot of each expert
  Tensor local_slots_;            // i32 [experts]: this rank's slot of each expert, or -1
};

}  // namespace shoal
