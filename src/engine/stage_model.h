// SPDX-License-Identifier: Apache-2.0
// StageModel: what a rank's thread asks of its model; RankModel behind it, or a fake that fails on purpose in tests.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "model/model.h"

namespace shoal {

class StageModel {
 public:
  virtual ~StageModel() = default;
  virtual const RankPlan& plan() const = 0;
  virtual void load(LoadProgress& progress) = 0;
  virtual void allocate_kv(std::span<const int64_t> pages) = 0;
  virtual void connect(const RankGroups& groups) = 0;
  // f32 [tokens, hidden], as RankModel's.
  virtual Tensor forward(const StepPlan& plan, const Tensor& hidden) = 0;
  virtual Tensor logits(const StepPlan& plan, const Tensor& hidden) = 0;
  virtual const std::map<int64_t, LayerPicks>& expert_picks() const = 0;
  virtual std::shared_ptr<const Placement> placement(int64_t layer) const = 0;
  virtual ExpertWeights expert_weights(int64_t layer, int64_t local_slot) const = 0;
  virtual std::vector<ExpertWeights> expert_room() const = 0;
  virtual void place_experts(std::span<const LayerFlip> flips) = 0;
};

using StageModelFactory = std::function<std::unique_ptr<StageModel>(int rank, Backend& backend)>;

struct StageModelSource {
  const ModelSpec& spec;
  const Mesh& mesh;
  ModelOptions options;
  const Checkpoint* checkpoint = nullptr;  // null: random weights
  int load_threads = 1;                    // per rank
};
// The real one. The source's references must outlive the models' loading.
StageModelFactory rank_models(const StageModelSource& source);

}  // namespace shoal
