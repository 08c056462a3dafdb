// SPDX-License-Identifier: Apache-2.0
#include "model/moe.h"

#include <algorithm>
#include <array>
#include <limits>
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

// Slots as a rank would have them that takes `picks` of these rows' picks, for their memory alone.
Tensor dry_slots(const Shape& shape, int64_t picks, int32_t slot, Backend& backend) {
  const int64_t rows = shape[0], top_k = shape[1];
  std::vector<int32_t> slots(shape.elements(), -1);
  for (int64_t row = 0; row < rows; ++row)
    std::fill_n(slots.begin() + row * top_k, even_part(picks, row, rows).size(), slot);
  return backend.from_host(slots, shape);
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

// Of a call, on any rank; without the longest step's length there is no bound.
MoeLoad most_load(const MoeLayer& layer, int64_t slots_per_rank, const BuildContext& build) {
  const int64_t longest = build.options.most_tokens, max_tokens = build.options.moe_max_num_tokens;
  if (longest == 0) return {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::max()};
  const GridSizes& sizes = build.mesh.sizes();
  int64_t tokens = longest * sizes.attention_data;
  if (max_tokens != kNoLimit) tokens = std::min(tokens, std::max<int64_t>(max_tokens, build.mesh.stage_size()));
  return moe_load_bound(tokens, layer.top_k, sizes.moe_expert, slots_per_rank);
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
      placement_(first_placement(index, build)),
      most_(most_load(layer_, placement_->slots_per_rank(), build)) {
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
  return in_calls({0, y.rows()}, calls(std::array{y.rows()}), step, [&](Range part) -> std::optional<Tensor> {
    const auto rows = [&](const Tensor& whole) { return whole.slice_rows(part.begin, part.end); };
    Tensor own = rows(slots);
    if (step.dry) own = dry_slots(own.shape(), std::min(most_.picks, own.elements()), some_slot(), backend);
    const int64_t computed = picks_in(own, backend);
    if (computed > most_.picks && part.size() > 1) return std::nullopt;
    picks.computed += computed;
    picks.most_rows = std::max(picks.most_rows, part.size());
    return backend.experts_sum({rows(y), own, rows(routing.weights)}, experts_);
  });
}

Tensor MoeBlock::exchanged(const Tensor& y, const Routing& routing, const StepContext& step, LayerPicks& picks) const {
  Backend& backend = step.backend;
  const int64_t tokens = y.rows(), sharers = step.attn.size();
  const Range home = even_part(tokens, step.attn.rank(), sharers);
  // Every rank makes as many calls, however few tokens it has.
  const Tensor result = in_calls(home, calls(home_tokens(step)), step, [&](Range part) {
    return exchange_call(y.slice_rows(part.begin, part.end), slice_rows(routing, part), step, picks);
  });
  if (sharers == 1) return result;
  const Tensor whole = backend.empty(DType::kF32, {tokens, hidden_});
  std::vector<int64_t> counts;
  for (int64_t i = 0; i < sharers; ++i) counts.push_back(even_part(tokens, i, sharers).size());
  step.attn.comm().all_gather(result, counts, whole);
  return whole;
}

// Nothing, on every rank alike, where a rank would get more than memory is planned for and there is something to divide.
std::optional<Tensor> MoeBlock::exchange_call(const Tensor& y, const Routing& routing, const StepContext& step,
                                              LayerPicks& picks) const {
  Backend& backend = step.backend;
  const MoeLoad dry_load = some_slot() < 0 ? MoeLoad{} : most_;
  MoeExchange exchange(step.moe.comm(), {sizes_.moe_expert, sizes_.moe_tensor, placement_->slots_per_rank()},
                       {&allocate, &backend, step.dry ? &dry_load : nullptr});
  const Tensor slots = slots_->global(routing.experts, step.moe.comm(), backend);
  const Announced announced = exchange.announce(slots);
  if (!announced.most.within(most_) && announced.divisible) return std::nullopt;
  Dispatched work = exchange.dispatch(y, slots, routing.weights);
  if (step.dry) work.slots = dry_slots(work.slots.shape(), dry_load.picks, some_slot(), backend);
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

// `call(part)` for one part of the rows after the other, `parts` of them or more: it gives the part's rows, or nothing where both halves must
// be called instead.
template <typename Call>
Tensor MoeBlock::in_calls(Range rows, int64_t parts, const StepContext& step, const Call& call) const {
  std::vector<Range> left;  // the last one comes first
  const auto divide = [&left](Range whole, int64_t into) {
    for (int64_t i = into; i-- > 0;) {
      const Range part = even_part(whole.size(), i, into);
      left.push_back({whole.begin + part.begin, whole.begin + part.end});
    }
  };
  divide(rows, parts);
  Tensor result;  // of several parts; planned for wherever there may be some
  const bool planned = step.dry && sizes_.moe_expert > 1;
  while (!left.empty()) {
    const Range part = left.back();
    left.pop_back();
    if (!result.defined() && (!left.empty() || planned))
      result = step.backend.empty(DType::kF32, {rows.size(), hidden_});
    const std::optional<Tensor> called = call(part);
    if (!called) {
      divide(part, 2);
    } else if (!result.defined()) {
      return *called;
    } else {
      put_rows(result, {part.begin - rows.begin, part.end - rows.begin}, *called, step.backend);
    }
  }
  return result;
}

// Any that is not empty.
int32_t MoeBlock::some_slot() const {
  const auto slot = std::ranges::find_if(experts_.down, [](const Matrix& down) { return down.defined(); });
  return slot == experts_.down.end() ? -1 : static_cast<int32_t>(slot - experts_.down.begin());
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
