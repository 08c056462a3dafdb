// SPDX-License-Identifier: Apache-2.0
#include "model/model.h"

#include <optional>

#include "model/decoder.h"
#include "model/rank_plan.h"
#include "model/rope.h"

namespace shoal {

struct RankModel::Impl {
  Impl(const ModelSpec& model_spec, const Mesh& model_mesh, int model_rank, const ModelOptions& model_options,
       Backend& model_backend)
      : spec(model_spec),
        mesh(model_mesh),
        options(model_options),
        at(mesh.at(model_rank)),
        backend(model_backend),
        weights(mesh, model_rank, options.compute),
        build{spec, options, mesh, model_rank, weights},
        decoder(
            stage_layers(static_cast<int64_t>(spec.layers.size()), mesh.sizes().pipeline, options.pp_partition)[at.pp],
            build),
        plan(declare_room_and_plan()) {
    for (const auto& [layer, experts] : plan.experts) {
      picks[layer].by_expert.assign(spec.layers[layer].moe->experts, 0);
      if (options.keep_selections) picks[layer].selections.emplace();
    }
  }

  // Declared after the decoder, and before its plan counts the bytes.
  RankPlan declare_room_and_plan() {
    std::map<std::pair<int64_t, bool>, int64_t> most_slots;  // by shape of the experts
    for (const DecoderBlock& block : decoder.blocks()) {
      if (!options.movable_experts || !block.moe()) continue;
      int64_t& most = most_slots[block.moe()->shape()];
      for (; most < block.moe()->placement().slots_per_rank(); ++most)
        room.push_back(block.moe()->declare_room(weights));
    }
    return make_rank_plan(decoder, build, backend);
  }

  int64_t positions() const { return options.max_seq_len > 0 ? options.max_seq_len : spec.max_positions; }

  void divide(const StepPlan& step) {
    const Batch& batch = step.groups[at.attn_dp];
    const PageShare share{at.cp, mesh.sizes().context};
    context_step.emplace(
        divide_rows(batch.kv.empty() ? std::vector<SequenceSpan>{} : batch.kv.front().spans, options.context, share));
    context_step->most_positions = positions();
    context_step->most_rows = options.most_tokens > 0 ? options.most_tokens : positions();
  }

  StepContext context(const StepPlan& step) const {
    return {backend,
            step,
            step.groups[at.attn_dp],
            rope,
            Group<Axis::kAttn>(*groups.attn),
            Group<Axis::kCp>(*groups.cp),
            Group<Axis::kFfnTp>(*groups.ffn_tp),
            Group<Axis::kMoe>(*groups.moe),
            options.deterministic,
            context_step ? &*context_step : nullptr,
            dry};
  }

  void copy_pages(const Batch& batch) {
    for (size_t i = 0; i < kv.size(); ++i) {
      const size_t pool = decoder.blocks()[i].attention().kv_shape().pool;
      if (batch.kv.empty()) continue;
      for (const PageCopy& copy : batch.kv[pool].copies)
        if (copy.space == at.cp) backend.kv_copy(kv[i], copy.from, copy.to, copy.tokens);
    }
  }

  ModelSpec spec;
  Mesh mesh;
  ModelOptions options;
  Coordinates at;
  Backend& backend;
  WeightTable weights;
  BuildContext build;
  std::optional<ContextStep> context_step;  // of the step that is being computed
  Decoder decoder;
  std::vector<MoeBlock::Expert> room;
  RankPlan plan;
  RankGroups groups;
  RopeTable rope;
  std::vector<KvLayer> kv;
  std::map<int64_t, LayerPicks> picks;
  bool dry = false;
};

RankModel::RankModel(const ModelSpec& spec, const Mesh& mesh, int rank, const ModelOptions& options, Backend& backend)
    : impl_(std::make_unique<Impl>(spec, mesh, rank, options, backend)) {}

RankModel::~RankModel() = default;

const RankPlan& RankModel::plan() const { return impl_->plan; }

void RankModel::load(const Checkpoint& checkpoint, int threads, LoadProgress& progress) {
  impl_->weights.load(checkpoint, impl_->backend, threads, progress);
  impl_->decoder.bind(impl_->backend);
  impl_->rope = make_rope_table(impl_->spec.rope, impl_->positions(), impl_->backend, threads);
}

void RankModel::reserve() {
  impl_->weights.reserve(impl_->backend);
  impl_->decoder.bind(impl_->backend);
  impl_->rope = reserve_rope_table(impl_->spec.rope, impl_->positions(), impl_->backend);
  impl_->dry = true;
}

void RankModel::load_dummy(uint64_t seed, int threads, LoadProgress& progress) {
  load(*make_dummy_checkpoint(seed), threads, progress);
}

void RankModel::allocate_kv(std::span<const int64_t> pages) {
  const DType dtype = impl_->options.cache;
  const int64_t block = impl_->options.tokens_per_block;
  impl_->kv.clear();
  for (const DecoderBlock& layer : impl_->decoder.blocks()) {
    const Attention::KvShape shape = layer.attention().kv_shape();
    const int64_t count = pages[shape.pool];
    KvLayer kv{impl_->backend.kept_zeros(dtype, {count, shape.kv_heads, block, shape.k_dim}), Tensor()};
    if (shape.v_dim > 0) kv.v = impl_->backend.kept_zeros(dtype, {count, shape.kv_heads, block, shape.v_dim});
    impl_->kv.push_back(kv);
  }
}

void RankModel::connect(const RankGroups& groups) { impl_->groups = groups; }

bool RankModel::first_stage() const { return impl_->decoder.first_stage(); }
bool RankModel::last_stage() const { return impl_->decoder.last_stage(); }
int64_t RankModel::hidden_size() const { return impl_->spec.hidden; }

Tensor RankModel::forward(const StepPlan& plan, const Tensor& hidden) {
  impl_->copy_pages(plan.groups[impl_->at.attn_dp]);
  if (impl_->mesh.sizes().context > 1) impl_->divide(plan);
  return impl_->decoder.forward(hidden, impl_->kv, impl_->context(plan), impl_->picks);
}

Tensor RankModel::logits(const StepPlan& plan, const Tensor& hidden) {
  return impl_->decoder.logits(hidden, impl_->context(plan));
}

const std::map<int64_t, LayerPicks>& RankModel::expert_picks() const { return impl_->picks; }

std::shared_ptr<const Placement> RankModel::placement(int64_t layer) const {
  return impl_->decoder.moe(layer).shared_placement();
}

ExpertWeights RankModel::expert_weights(int64_t layer, int64_t local_slot) const {
  return impl_->decoder.moe(layer).weights(local_slot);
}

std::vector<ExpertWeights> RankModel::expert_room() const {
  std::vector<ExpertWeights> room;
  for (const MoeBlock::Expert& expert : impl_->room) room.push_back(expert.loaded());
  return room;
}

void RankModel::place_experts(std::span<const LayerFlip> flips) {
  const int rank = impl_->build.rank % impl_->mesh.replica_size();
  for (const LayerFlip& flip : flips)
    if (impl_->decoder.layers().contains(flip.layer))
      impl_->decoder.moe(flip.layer).place(flip.placement, flip.changes[rank], impl_->backend);
}

}  // namespace shoal
