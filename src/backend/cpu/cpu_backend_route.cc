// SPDX-License-Identifier: Apache-2.0
// Routers: which experts a token goes to, and with what weights.
#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/elementwise.h"
#include "tensor/raw.h"

namespace shoal {

namespace {

// The `count` largest of values, best first, ties to the lowest index; as indices.
void largest(std::span<const float> values, int64_t count, std::vector<int32_t>& best) {
  best.clear();
  for (int32_t i = 0; i < static_cast<int32_t>(values.size()); ++i) {
    const float value = values[static_cast<size_t>(i)];
    const bool full = static_cast<int64_t>(best.size()) == count;
    if (full && !(value > values[static_cast<size_t>(best.back())])) continue;
    if (full) best.pop_back();
    size_t place = best.size();
    while (place > 0 && value > values[static_cast<size_t>(best[place - 1])]) --place;
    best.insert(best.begin() + static_cast<int64_t>(place), i);
  }
}

float group_score(std::span<const float> members, GroupScore rule) {
  float best = -HUGE_VALF, second = -HUGE_VALF;
  for (const float value : members) {
    if (value > best) {
      second = best;
      best = value;
    } else {
      second = std::max(second, value);
    }
  }
  return rule == GroupScore::kTopTwoSum && members.size() > 1 ? best + second : best;
}

// One thread's router: scratch of one token.
class TokenRouter {
 public:
  TokenRouter(const RouterSpec& spec, const RowKernels& kernels)
      : spec_(spec), kernels_(kernels), group_scores_(static_cast<size_t>(spec.groups)) {}

  void route(const float* logits, int32_t* experts, float* weights) {
    scores_.assign(logits, logits + spec_.experts);
    const bool chosen_only = spec_.scoring == Scoring::kSoftmax && spec_.softmax_over_chosen;
    if (spec_.scoring == Scoring::kSigmoid) {
      kernels_.sigmoid(scores_.data(), spec_.experts);
    } else if (!chosen_only) {
      kernels_.softmax(scores_.data(), spec_.experts);
    }
    choice_ = scores_;
    if (spec_.correction_bias.defined()) {
      const float* bias = raw<float>(spec_.correction_bias);
      for (size_t i = 0; i < choice_.size(); ++i) choice_[i] += bias[i];
    }
    if (spec_.groups > 1) mask_groups();
    largest(choice_, spec_.top_k, best_);
    std::sort(best_.begin(), best_.end());
    for (size_t k = 0; k < best_.size(); ++k) {
      experts[k] = best_[k];
      weights[k] = scores_[static_cast<size_t>(best_[k])];
    }
    if (spec_.softmax_over_chosen) kernels_.softmax(weights, spec_.top_k);
    scale(weights);
  }

 private:
  void mask_groups() {
    const size_t size = choice_.size() / static_cast<size_t>(spec_.groups);
    for (size_t group = 0; group < group_scores_.size(); ++group)
      group_scores_[group] = group_score(std::span(choice_).subspan(group * size, size), spec_.group_score);
    largest(group_scores_, spec_.top_groups, best_);
    for (size_t group = 0; group < group_scores_.size(); ++group) {
      if (std::find(best_.begin(), best_.end(), static_cast<int32_t>(group)) != best_.end()) continue;
      std::fill_n(choice_.begin() + static_cast<int64_t>(group * size), size, spec_.masked_is_zero ? 0.0f : -HUGE_VALF);
    }
  }

  // Renormalised in ascending order of expert, then scaled.
  void scale(float* weights) const {
    float divisor = 1.0f;
    if (spec_.renormalise) {
      divisor = 0.0f;
      for (int64_t k = 0; k < spec_.top_k; ++k) divisor += weights[k];
      if (spec_.scoring == Scoring::kSigmoid) divisor += 1e-20f;
    }
    for (int64_t k = 0; k < spec_.top_k; ++k) weights[k] = weights[k] / divisor * spec_.scale;
  }

  const RouterSpec& spec_;
  const RowKernels& kernels_;
  std::vector<float> scores_;
  std::vector<float> choice_;  // scores as they select: corrected, and masked by group
  std::vector<float> group_scores_;
  std::vector<int32_t> best_;
};

// A token's picks as far apart as can be, so that they lie on as many ranks.
void spread_evenly(const Tensor& picks, int64_t experts) {
  const int64_t apart = experts / picks.row_elements();
  for (int64_t row = 0; row < picks.rows(); ++row) {
    int32_t* begin = raw_row<int32_t>(picks, row);
    for (int64_t k = 0; k < picks.row_elements(); ++k) begin[k] = static_cast<int32_t>((row + k * apart) % experts);
    std::sort(begin, begin + picks.row_elements());
  }
}

}  // namespace

Routing CpuBackend::route(const Tensor& logits, const RouterSpec& spec) {
  CHECK_EQ(logits.row_elements(), spec.experts);
  CHECK(0 < spec.top_k && spec.top_k <= spec.experts);
  CHECK_EQ(spec.experts % spec.groups, 0);
  CHECK_LE(spec.top_groups, spec.groups);
  if (spec.correction_bias.defined()) CHECK_EQ(spec.correction_bias.elements(), spec.experts);
  const Routing routing = {.experts = empty(DType::kI32, {logits.rows(), spec.top_k}),
                           .weights = empty(DType::kF32, {logits.rows(), spec.top_k})};
  if (pool_.dry()) spread_evenly(routing.experts, spec.experts);
  pool_.parallel_for(logits.rows(), 1 + 4096 / (spec.experts + 1), [&](int64_t begin, int64_t end) {
    TokenRouter router(spec, row_kernels(isa_));
    for (int64_t row = begin; row < end; ++row)
      router.route(raw_row<float>(logits, row), raw_row<int32_t>(routing.experts, row),
                   raw_row<float>(routing.weights, row));
  });
  return routing;
}

}  // namespace shoal
