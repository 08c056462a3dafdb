// SPDX-License-Identifier: Apache-2.0
#include "engine/stage_model.h"

#include "model/checkpoint.h"

namespace shoal {
namespace {

constexpr uint64_t kDummySeed = 0x5408;

class RankStage : public StageModel {
 public:
  RankStage(const StageModelSource& source, int rank, Backend& backend)
      : checkpoint_(source.checkpoint),
        threads_(source.load_threads),
        model_(source.spec, source.mesh, rank, source.options, backend) {}

  const RankPlan& plan() const override { return model_.plan(); }
  void load(LoadProgress& progress) override {
    if (checkpoint_) {
      model_.load(*checkpoint_, threads_, progress);
    } else {
      model_.load_dummy(kDummySeed, threads_, progress);
    }
  }
  void allocate_kv(std::span<const int64_t> pages) override { model_.allocate_kv(pages); }
  void connect(const RankGroups& groups) override { model_.connect(groups); }
  Tensor forward(const StepPlan& plan, const Tensor& hidden) override { return model_.forward(plan, hidden); }
  Tensor logits(const StepPlan& plan, const Tensor& hidden) override { return model_.logits(plan, hidden); }
  const std::map<int64_t, LayerPicks>& expert_picks() const override { return model_.expert_picks(); }
  std::shared_ptr<const Placement> placement(int64_t layer) const override { return model_.placement(layer); }
  ExpertWeights expert_weights(int64_t layer, int64_t local_slot) const override {
    return model_.expert_weights(layer, local_slot);
  }
  std::vector<ExpertWeights> expert_room() const override { return model_.expert_room(); }
  void place_experts(std::span<const LayerFlip> flips) override { model_.place_experts(flips); }

 private:
  const Checkpoint* checkpoint_;
  int threads_;
  RankModel model_;
};

}  // namespace

StageModelFactory rank_models(const StageModelSource& source) {
  return [source](int rank, Backend& backend) { return std::make_unique<RankStage>(source, rank, backend); };
}

}  // namespace shoal
