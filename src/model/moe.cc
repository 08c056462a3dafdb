// SPDX-License-Identifier: Apache-2.0
#include "model/moe.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "comm/moe_exchange.h"

namespace shoal {

namespace {

constexpr int64_t kNoLimit = 0;

Tensor allocate(void* backend, DType dtype, const Shape& shape) {
  return static_cast<Backend*>(backend)->empty(dtype, shape);
}

// Tokens of which each rank of the stage is the home.
std::vector<int64_t> home_tokens(const StepContext& step) {
  std::vector<int64_t> tokens;
  const int64_t sharers = step.attn.size();
  for (const Batch& batch : step.plan.groups)
    for (int64_t i = 0; i < sharers; ++i) tokens.push_back(even_part(std::ssize(batch.tokens), i, sharers).size());
  return tokens;
}

int64_t picks_in(const Tensor& slots, Backend& backend) {
  const std::vector<int32_t> values = backend.to_host_ids(slots);
  return std::ranges::count_if(values, [](int32_t slot) { return slot >= 0; });
}

Routing slice_rows(const Routing& routing, Range rows) {
  return {routing.experts.slice_rows(rows.begin, rows.end), routing.weights.slice_rows(rows.begin, rows.end)};
}

std::shared_ptr<const Placement> first_placement(int64_t layer, const BuildContext& build) {
  const int64_t experts = build.spec.layers[layer].moe->experts, ep = build.mesh.sizes().moe_expert;
  const auto given = build.options.placements.find(layer);
  return std::make_shared<const Placement>(given == build.options.placements.end() ? Placement::contiguous(experts, ep)
                                                                                   : given->second);
}

// Rows [part) of `result` become `values`.
void put_rows(const Tensor& result, Range part, const Tensor& values, Backend& backend) {
  std::vector<int32_t> ids(part.size());
  std::iota(ids.begin(), ids.end(), static_cast<int32_t>(part.begin));
  backend.scatter_rows(result, ids, values);
}

}  // namespace

MoeBlock::MoeBlock(int64_t index, const std::string& prefix, const BuildContext& build)
    : layer_(*build.spec.layers[index].moe),
      hidden_(build.spec.hidden),
      max_tokens_(build.options.moe_max_num_tokens),
      at_(build.mesh.at(build.rank)),
      sizes_(build.mesh.sizes()),
      exchanges_(build.options.deterministic || build.mesh.sizes().attention_data > 1),
      experts_block_(prefix + layer_.block + ".experts"),
      placement_(first_placement(index, build)) {
  WeightTable& weights = build.weights;
  const Dim hidden{"hidden", hidden_}, experts{"experts", layer_.experts};
  const std::string block = prefix + layer_.block, router = block + "." + layer_.router_name;
  router_.weight =
      weights.matrix(MatrixKind::kColumn, {weights.part(router, experts, hidden)}, weights.local(hidden), DType::kF32);
  if (layer_.router_bias) router_.bias = weights.vector(router + ".bias", experts);
  if (layer_.correction_bias) correction_bias_ = weights.vector(router + ".e_score_correction_bias", experts);
  if (layer_.shared_ffn > 0)
    shared_.emplace(weights, block + "." + layer_.shared_name, hidden,
                    Dim{"shared ffn", layer_.shared_ffn, 1, Cut::kFfnTp});
  for (const ExpertId expert : placement_->on_rank(at_.moe_ep))
    declared_.push_back(expert == kNoExpert ? Expert{} : declare_expert(expert.value, weights));
  if (layer_.expert_bias)
    down_bias_ =
        weights.table({MatrixSource{.tensor = block + ".experts.down_proj_bias", .out = layer_.experts, .in = hidden_},
                       weights.local(experts)});
}

MoeBlock::Expert MoeBlock::declare_expert(int64_t expert, WeightTable& weights) const {
  const std::string& block = experts_block_;
  const Dim hidden{"hidden", hidden_}, ffn{"moe ffn", layer_.ffn, 1, Cut::kMoeTp};
  if (layer_.storage == ExpertStorage::kPerExpert) {
    const std::string name = block + "." + std::to_string(expert) + ".";
    return {weights.matrix(
                MatrixKind::kGateUp,
                {weights.part(name + layer_.gate_proj, ffn, hidden), weights.part(name + layer_.up_proj, ffn, hidden)},
                weights.local(hidden), weights.compute()),
            weights.row(name + layer_.down_proj, hidden, ffn)};
  }
  return declare_stacked(expert, weights);
}

// Stacked [experts, in, out]; gate and up are halves or alternating columns of one tensor.
MoeBlock::Expert MoeBlock::declare_stacked(int64_t expert, WeightTable& weights) const {
  const std::string& block = experts_block_;
  const Dim hidden{"hidden", hidden_}, ffn{"moe ffn", layer_.ffn, 1, Cut::kMoeTp};
  const bool pairs = layer_.storage == ExpertStorage::kStackedPairs;
  const Range rows = weights.local(ffn);
  MatrixSource gate{.tensor = block + ".gate_up_proj",
                    .out = layer_.ffn,
                    .in = hidden_,
                    .expert = expert,
                    .experts = layer_.experts,
                    .transposed = true,
                    .stored_out = 2 * layer_.ffn,
                    .out_begin = 0,
                    .out_step = pairs ? 2 : 1};
  MatrixSource up = gate;
  up.out_begin = pairs ? 1 : layer_.ffn;
  const MatrixSource down{.tensor = block + ".down_proj",
                          .out = hidden_,
                          .in = layer_.ffn,
                          .expert = expert,
                          .experts = layer_.experts,
                          .transposed = true};
  Expert result{
      weights.matrix(MatrixKind::kGateUp, {{gate, rows}, {up, rows}}, weights.local(hidden), weights.compute()),
      weights.matrix(MatrixKind::kRow, {{down, {0, hidden_}}}, rows, weights.compute())};
  if (layer_.expert_bias) {
    for (MatrixSource* source : {&gate, &up}) {
      source->tensor += "_bias";
      source->in = 1;
      source->transposed = false;
      source->vector = true;
    }
    result.gate_up_bias = weights.vector({{gate, rows}, {up, rows}});
  }
  return result;
}

MoeBlock::Expert MoeBlock::declare_room(WeightTable& weights) const {
  Expert room;
  weights.declare_room([&] { room = declare_expert(0, weights); });
  return room;
}

ExpertWeights MoeBlock::Expert::loaded() const {
  return {gate_up ? *gate_up : Matrix(), down ? *down : Matrix(), gate_up_bias ? *gate_up_bias : Tensor()};
}

void MoeBlock::bind(Backend& backend) {
  experts_ = ExpertMatrices();
  experts_.gate = layer_.gate;
  experts_.weight_on_input = layer_.weight_on_input;
  for (const Expert& expert : declared_) {
    const ExpertWeights loaded = expert.loaded();
    experts_.gate_up.push_back(loaded.gate_up);
    experts_.down.push_back(loaded.down);
    if (layer_.expert_bias) experts_.gate_up_bias.push_back(loaded.gate_up_bias);
  }
  slots_.emplace(placement_, at_.moe_ep, backend);
}

ExpertWeights MoeBlock::weights(int64_t local_slot) const {
  return {experts_.gate_up[local_slot], experts_.down[local_slot],
          layer_.expert_bias ? experts_.gate_up_bias[local_slot] : Tensor()};
}

void MoeBlock::place(std::shared_ptr<const Placement> placement, std::span<const LayerFlip::Change> changes,
                     Backend& backend) {
  CHECK_EQ(placement->slots(), placement_->slots());
  placement_ = std::move(placement);
  for (const LayerFlip::Change& change : changes) {
    experts_.gate_up[change.local_slot] = change.weights.gate_up;
    experts_.down[change.local_slot] = change.weights.down;
    if (layer_.expert_bias) experts_.gate_up_bias[change.local_slot] = change.weights.gate_up_bias;
  }
  const std::vector<ExpertId> here = placement_->on_rank(at_.moe_ep);
  for (size_t slot = 0; slot < here.size(); ++slot) CHECK_EQ(here[slot] != kNoExpert, experts_.gate_up[slot].defined());
  slots_.emplace(placement_, at_.moe_ep, backend);
}

Routing MoeBlock::route(const Tensor& y, Backend& backend) const {
  RouterSpec spec = layer_.router;
  if (correction_bias_) spec.correction_bias = *correction_bias_;
  return backend.route(router_(backend, y), spec);
}

Tensor MoeBlock::operator()(const Tensor& y, const StepContext& step, LayerPicks& picks) const {
  const Routing routing = route(y, step.backend);
  count(routing, step, picks);
  if (!exchanges_) return reduced(y, routing, step, picks);
  const Tensor routed = exchanged(y, routing, step, picks);
  if (shared_ && y.rows() > 0) step.backend.add(routed, step.ffn_tp.all_reduce((*shared_)(step.backend, y)));
  return routed;
}

Tensor MoeBlock::reduced(const Tensor& y, const Routing& routing, const StepContext& step, LayerPicks& picks) const {
  Backend& backend = step.backend;
  Partial<Axis::kMoe> routed(local_experts(y, routing, step, picks));
  if (!shared_) {
    const Tensor sum = step.moe.all_reduce(std::move(routed));
    if (down_bias_) backend.add_weighted_rows(sum, routing.experts, routing.weights, *down_bias_);
    return sum;
  }
  const auto [routed_sum, shared_sum] =
      all_reduce_together(step.moe, std::move(routed), step.ffn_tp, (*shared_)(backend, y));
  if (down_bias_) backend.add_weighted_rows(routed_sum, routing.experts, routing.weights, *down_bias_);
  backend.add(routed_sum, shared_sum);
  return routed_sum;
}

// This rank's term: the weighted sum of its experts' rows, every rank having the same tokens.
Tensor MoeBlock::local_experts(const Tensor& y, const Routing& routing, const StepContext& step,
                               LayerPicks& picks) const {
  Backend& backend = step.backend;
  const Tensor slots = slots_->local(routing.experts, backend);
  picks.computed += picks_in(slots, backend);
  const int64_t parts = calls(std::array{y.rows()});
  picks.most_rows = std::max(picks.most_rows, (y.rows() + parts - 1) / parts);
  if (parts == 1) return backend.experts_sum({y, slots, routing.weights}, experts_);
  const Tensor result = backend.empty(DType::kF32, {y.rows(), hidden_});
  for (int64_t i = 0; i < parts; ++i) {
    const Range part = even_part(y.rows(), i, parts);
    const auto rows = [&](const Tensor& whole) { return whole.slice_rows(part.begin, part.end); };
    put_rows(result, part, backend.experts_sum({rows(y), rows(slots), rows(routing.weights)}, experts_), backend);
  }
  return result;
}

Tensor MoeBlock::exchanged(const Tensor& y, const Routing& routing, const StepContext& step, LayerPicks& picks) const {
  Backend& backend = step.backend;
  const int64_t tokens = y.rows(), sharers = step.attn.size();
  const Range home = even_part(tokens, step.attn.rank(), sharers);
  const Tensor rows = y.slice_rows(home.begin, home.end);
  const Routing home_routing = slice_rows(routing, home);
  // More tokens than one call may carry go in several; every rank makes as many calls, however few tokens it has.
  const int64_t parts = calls(home_tokens(step));
  const Tensor result = backend.empty(DType::kF32, {home.size(), hidden_});
  for (int64_t i = 0; i < parts; ++i) {
    const Range part = even_part(home.size(), i, parts);
    const Tensor sum =
        exchange_call(rows.slice_rows(part.begin, part.end), slice_rows(home_routing, part), step, picks);
    if (parts == 1 && sharers == 1) return sum;
    put_rows(result, part, sum, backend);
  }
  if (sharers == 1) return result;
  const Tensor whole = backend.empty(DType::kF32, {tokens, hidden_});
  std::vector<int64_t> counts;
  for (int64_t i = 0; i < sharers; ++i) counts.push_back(even_part(tokens, i, sharers).size());
  step.attn.comm().all_gather(result, counts, whole);
  return whole;
}

Tensor MoeBlock::exchange_call(const Tensor& y, const Routing& routing, const StepContext& step,
                               LayerPicks& picks) const {
  Backend& backend = step.backend;
  MoeExchange exchange(step.moe.comm(), {sizes_.moe_expert, sizes_.moe_tensor, placement_->slots_per_rank()},
                       {&allocate, &backend, step.dry});
  const Dispatched work =
      exchange.dispatch(y, slots_->global(routing.experts, step.moe.comm(), backend), routing.weights);
  picks.computed += exchange.received_picks();
  picks.most_rows = std::max(picks.most_rows, work.rows.rows());
  Tensor sum;
  if (step.deterministic) {
    const Tensor rows = exchange.combine_picks(backend.experts_rows({work.rows, work.slots, work.weights}, experts_));
    const std::vector<float> ones(routing.weights.elements(), 1.0f);
    // Weights that went into the experts' input must not count again.
    sum = backend.weigh_picks(
        rows, layer_.weight_on_input ? backend.from_host(ones, routing.weights.shape()) : routing.weights);
  } else {
    sum = exchange.combine_sums(backend.experts_sum({work.rows, work.slots, work.weights}, experts_));
  }
  if (down_bias_) backend.add_weighted_rows(sum, routing.experts, routing.weights, *down_bias_);
  return sum;
}

// As few calls as keep each within max_tokens_, summed over the homes; a call cannot carry less than one token of each.
int64_t MoeBlock::calls(std::span<const int64_t> home_tokens) const {
  if (max_tokens_ == kNoLimit) return 1;
  const int64_t longest = std::ranges::max(home_tokens);
  for (int64_t parts = 1; parts < longest; ++parts) {
    int64_t largest = 0;
    for (const int64_t tokens : home_tokens) largest += (tokens + parts - 1) / parts;
    if (largest <= max_tokens_) return parts;
  }
  return std::max<int64_t>(longest, 1);
}

void MoeBlock::count(const Routing& routing, const StepContext& step, LayerPicks& picks) const {
  if (picks.selections) picks.selections->clear();
  if (step.attn.rank() != 0 || routing.experts.elements() == 0) return;
  std::vector<int32_t> experts = step.backend.to_host_ids(routing.experts);
  for (const int32_t expert : experts) ++picks.by_expert[expert];
  if (picks.selections) picks.selections = std::move(experts);
}

}  // namespace shoal
