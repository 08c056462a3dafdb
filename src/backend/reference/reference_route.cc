// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numeric>

#include "backend/reference/reference_backend.h"
#include "tensor/raw.h"

namespace shoal {

namespace {

// Indices of the `count` largest values, best first; ties to the lowest index.
std::vector<int64_t> largest(const std::vector<double>& values, int64_t count) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(count));
  return order;
}

std::vector<double> softmax(std::vector<double> values) {
  const double maximum = *std::max_element(values.begin(), values.end());
  double sum = 0.0;
  for (double& value : values) sum += value = std::exp(value - maximum);
  for (double& value : values) value /= sum;
  return values;
}

std::vector<double> scores_of(const std::vector<double>& logits, const RouterSpec& spec) {
  if (spec.scoring == Scoring::kSoftmax) return spec.softmax_over_chosen ? logits : softmax(logits);
  std::vector<double> scores = logits;
  for (double& score : scores) score = 1.0 / (1.0 + std::exp(-score));
  return scores;
}

// DeepSeek-V2 and V3, device-limited routing: keeps the scores of the best groups.
void mask_groups(const RouterSpec& spec, std::vector<double>& choice) {
  if (spec.groups <= 1) return;
  const auto size = choice.size() / static_cast<size_t>(spec.groups);
  std::vector<double> group_scores;
  for (size_t first = 0; first < choice.size(); first += size) {
    std::vector<double> members(choice.begin() + static_cast<int64_t>(first),
                                choice.begin() + static_cast<int64_t>(first + size));
    std::sort(members.rbegin(), members.rend());
    const bool two = spec.group_score == GroupScore::kTopTwoSum && members.size() > 1;
    group_scores.push_back(two ? members[0] + members[1] : members[0]);
  }
  std::vector<bool> kept(static_cast<size_t>(spec.groups));
  for (const int64_t group : largest(group_scores, spec.top_groups)) kept[static_cast<size_t>(group)] = true;
  for (size_t i = 0; i < choice.size(); ++i)
    if (!kept[i / size]) choice[i] = spec.masked_is_zero ? 0.0 : -HUGE_VAL;
}

std::vector<double> weights_of(const std::vector<double>& chosen, const RouterSpec& spec) {
  std::vector<double> weights = spec.softmax_over_chosen ? softmax(chosen) : chosen;
  if (spec.renormalise) {
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (double& weight : weights) weight /= spec.scoring == Scoring::kSigmoid ? sum + 1e-20 : sum;
  }
  for (double& weight : weights) weight *= double{spec.scale};
  return weights;
}

}  // namespace

Routing ReferenceBackend::route(const Tensor& logits, const RouterSpec& spec) {
  CHECK_EQ(logits.row_elements(), spec.experts);
  const Routing routing = {.experts = empty(DType::kI32, {logits.rows(), spec.top_k}),
                           .weights = empty(DType::kF32, {logits.rows(), spec.top_k})};
  for (int64_t row = 0; row < logits.rows(); ++row) {
    const float* values = raw_row<float>(logits, row);
    const std::vector<double> scores = scores_of(std::vector<double>(values, values + spec.experts), spec);
    std::vector<double> choice = scores;
    if (spec.correction_bias.defined())
      for (size_t i = 0; i < choice.size(); ++i) choice[i] += double{raw<float>(spec.correction_bias)[i]};
    mask_groups(spec, choice);
    std::vector<int64_t> experts = largest(choice, spec.top_k);
    std::sort(experts.begin(), experts.end());
    std::vector<double> chosen;
    for (const int64_t expert : experts) chosen.push_back(scores[static_cast<size_t>(expert)]);
    const std::vector<double> weights = weights_of(chosen, spec);
    for (size_t k = 0; k < experts.size(); ++k) {
      raw_row<int32_t>(routing.experts, row)[k] = static_cast<int32_t>(experts[k]);
      raw_row<float>(routing.weights, row)[k] = static_cast<float>(weights[k]);
    }
  }
  return routing;
}

}  // namespace shoal
