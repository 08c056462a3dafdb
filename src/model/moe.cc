// SPDX-License-Identifier: Apache-2.0
#include "model/moe.h"

#include <algorithm>

#include "comm/moe_exchange.h"

namespace shoal {

namespace {

constexpr int64_t kNoLimit = 0;

std::vector<int32_t> slot_table(const Placement& placement) {
  std::vector<int32_t> slots;
  for (int32_t expert = 0; expert < placement.experts(); ++expert)
    slots.push_back(placement.slots_of({expert}).front().value);
  return slots;
}

Tensor allocate(void* backend, DType dtype, const Shape& shape) {
  return static_cast<Backend*>(backend)->empty(dtype, shape);
}

int64_t step_tokens(const StepPlan& plan) {
  int64_t tokens = 0;
  for (const Batch& batch : plan.groups) tokens += static_cast<int64_t>(batch.tokens.size());
  return tokens;
}

Routing slice_rows(const Routing& routing, Range rows) {
  return {routing.experts.slice_rows(rows.begin, rows.end), routing.weights.slice_rows(rows.begin, rows.end)};
}

}  // namespace

MoeBlock::MoeBlock(const MoeLayer& layer, const std::string& prefix, const BuildContext& build)
    : layer_(layer),
      hidden_(build.spec.hidden),
      max_tokens_(build.options.moe_max_num_tokens),
      at_(build.mesh.at(build.rank)),
      sizes_(build.mesh.sizes()),
      exchanges_(build.options.deterministic || build.mesh.sizes().attention_data > 1),
      placement_(Placement::contiguous(layer.experts, build.mesh.sizes().moe_expert)) {
  WeightTable& weights = build.weights;
  const Dim hidden{"hidden", hidden_}, experts{"experts", layer.experts};
  const std::string block = prefix + layer.block, router = block + "." + layer.router_name;
  router_.weight =
      weights.matrix(MatrixKind::kColumn, {weights.part(router, experts, hidden)}, weights.local(hidden), DType::kF32);
  if (layer.router_bias) router_.bias = weights.vector(router + ".bias", experts);
  if (layer.correction_bias) correction_bias_ = weights.vector(router + ".e_score_correction_bias", experts);
  if (layer.shared_ffn > 0)
    shared_.emplace(weights, block + "." + layer.shared_name, hidden,
                    Dim{"shared ffn", layer.shared_ffn, 1, Cut::kFfnTp});
  for (const ExpertId expert : placement_.on_rank(at_.moe_ep))
    declared_.push_back(expert == kNoExpert ? Expert{} : declare_expert(block + ".experts", expert.value, weights));
  if (layer.expert_bias)
    down_bias_ =
        weights.table({MatrixSource{.tensor = block + ".experts.down_proj_bias", .out = layer.experts, .in = hidden_},
                       weights.local(experts)},
                      DType::kF32);
}

MoeBlock::Expert MoeBlock::declare_expert(const std::string& block, int64_t expert, WeightTable& weights) const {
  const Dim hidden{"hidden", hidden_}, ffn{"moe ffn", layer_.ffn, 1, Cut::kMoeTp};
  if (layer_.storage == ExpertStorage::kPerExpert) {
    const std::string name = block + "." + std::to_string(expert) + ".";
    return {weights.matrix(
                MatrixKind::kGateUp,
                {weights.part(name + layer_.gate_proj, ffn, hidden), weights.part(name + layer_.up_proj, ffn, hidden)},
                weights.local(hidden), weights.compute()),
            weights.row(name + layer_.down_proj, hidden, ffn)};
  }
  // Stacked [experts, in, out]; gate and up are halves or alternating columns of one tensor.
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

void MoeBlock::bind(Backend& backend) {
  experts_ = ExpertMatrices();
  experts_.gate = layer_.gate;
  experts_.weight_on_input = layer_.weight_on_input;
  for (const Expert& expert : declared_) {
    experts_.gate_up.push_back(expert.gate_up ? *expert.gate_up : Matrix());
    experts_.down.push_back(expert.down ? *expert.down : Matrix());
    if (layer_.expert_bias) experts_.gate_up_bias.push_back(expert.gate_up_bias ? *expert.gate_up_bias : Tensor());
  }
  std::vector<int32_t> slots = slot_table(placement_);
  global_slots_ = backend.from_host(slots, {placement_.experts()});
  const int32_t first = static_cast<int32_t>(at_.moe_ep * placement_.slots_per_rank());
  for (int32_t& slot : slots) slot = first <= slot && slot < first + placement_.slots_per_rank() ? slot - first : -1;
  local_slots_ = backend.from_host(slots, {placement_.experts()});
}

Routing MoeBlock::route(const Tensor& y, Backend& backend) const {
  RouterSpec spec = layer_.router;
  if (correction_bias_) spec.correction_bias = *correction_bias_;
  return backend.route(router_(backend, y), spec);
}

Tensor MoeBlock::operator()(const Tensor& y, const StepContext& step, std::vector<int64_t>& loads) const {
  const Routing routing = route(y, step.backend);
  count(routing, step, loads);
  if (!exchanges_) return reduced(y, routing, step);
  const Tensor routed = exchanged(y, routing, step);
  if (shared_ && y.rows() > 0) step.backend.add(routed, step.ffn_tp.all_reduce((*shared_)(step.backend, y)));
  return routed;
}

Tensor MoeBlock::reduced(const Tensor& y, const Routing& routing, const StepContext& step) const {
  Backend& backend = step.backend;
  const Tensor slots = backend.lookup(routing.experts, local_slots_);
  Partial<Axis::kMoe> routed(backend.experts_sum({y, slots, routing.weights}, experts_));
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

Tensor MoeBlock::exchanged(const Tensor& y, const Routing& routing, const StepContext& step) const {
  Backend& backend = step.backend;
  const int64_t tokens = y.rows(), sharers = step.attn_tp.size();
  const Range home = even_part(tokens, step.attn_tp.rank(), sharers);
  const Tensor rows = y.slice_rows(home.begin, home.end);
  const Routing home_routing = slice_rows(routing, home);
  // More tokens than one call may carry go in several; every rank makes as many calls, however few tokens it has.
  const int64_t parts = calls(step);
  const Tensor result = backend.empty(DType::kF32, {home.size(), hidden_});
  for (int64_t i = 0; i < parts; ++i) {
    const Range part = even_part(home.size(), i, parts);
    const Tensor sum = exchange_call(rows.slice_rows(part.begin, part.end), slice_rows(home_routing, part), step);
    if (parts == 1 && sharers == 1) return sum;
    std::vector<int32_t> ids;
    for (int64_t row = part.begin; row < part.end; ++row) ids.push_back(static_cast<int32_t>(row));
    backend.scatter_rows(result, ids, sum);
  }
  if (sharers == 1) return result;
  const Tensor whole = backend.empty(DType::kF32, {tokens, hidden_});
  std::vector<int64_t> counts;
  for (int64_t i = 0; i < sharers; ++i) counts.push_back(even_part(tokens, i, sharers).size());
  step.attn_tp.comm().all_gather(result, counts, whole);
  return whole;
}

Tensor MoeBlock::exchange_call(const Tensor& y, const Routing& routing, const StepContext& step) const {
  Backend& backend = step.backend;
  MoeExchange exchange(step.moe.comm(), {sizes_.moe_expert, sizes_.moe_tensor, placement_.slots_per_rank()},
                       {&allocate, &backend});
  const Dispatched work = exchange.dispatch(y, backend.lookup(routing.experts, global_slots_), routing.weights);
  Tensor sum;
  if (step.deterministic) {
    const Tensor picks = exchange.combine_picks(backend.experts_rows({work.rows, work.slots, work.weights}, experts_));
    const std::vector<float> ones(routing.weights.elements(), 1.0f);
    // Weights that went into the experts' input must not count again.
    sum = backend.weigh_picks(
        picks, layer_.weight_on_input ? backend.from_host(ones, routing.weights.shape()) : routing.weights);
  } else {
    sum = exchange.combine_sums(backend.experts_sum({work.rows, work.slots, work.weights}, experts_));
  }
  if (down_bias_) backend.add_weighted_rows(sum, routing.experts, routing.weights, *down_bias_);
  return sum;
}

int64_t MoeBlock::calls(const StepContext& step) const {
  if (max_tokens_ == kNoLimit) return 1;
  return std::max<int64_t>(1, (step_tokens(step.plan) + max_tokens_ - 1) / max_tokens_);
}

void MoeBlock::count(const Routing& routing, const StepContext& step, std::vector<int64_t>& loads) const {
  if (step.attn_tp.rank() != 0 || routing.experts.elements() == 0) return;
  for (const int32_t expert : step.backend.to_host_ids(routing.experts)) ++loads[expert];
}

}  // namespace shoal
