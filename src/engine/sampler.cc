// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "engine/random.h"

namespace shoal {
namespace {

// Larger logits first, lower ids first among equals: a strict order whatever the values (NaN comes last).
struct Likelier {
  std::span<const float> logits;
  float key(int32_t id) const { return std::isnan(logits[id]) ? -std::numeric_limits<float>::infinity() : logits[id]; }
  bool operator()(int32_t a, int32_t b) const {
    const float x = key(a), y = key(b);
    return x != y ? x > y : a < b;
  }
};

// The `count` likeliest of `ids` (all of them if count exceeds their number), likeliest first.
void keep_likeliest(std::vector<int32_t>& ids, int64_t count, std::span<const float> logits) {
  const auto middle = ids.begin() + std::min<int64_t>(count, std::ssize(ids));
  std::partial_sort(ids.begin(), middle, ids.end(), Likelier{logits});
  ids.erase(middle, ids.end());
}

}  // namespace

std::vector<std::string> sampling_problems(const SamplingParams& p) {
  std::vector<std::string> problems;
  const auto check = [&](bool good, const char* name, auto value, const char* rule) {
    if (!good) problems.push_back(fmt::format("{} is {}; it must be {}", name, value, rule));
  };
  check(p.max_tokens >= 1, "max_tokens", p.max_tokens, "at least 1");
  check(p.temperature >= 0.0f && std::isfinite(p.temperature), "temperature", p.temperature,
        "at least 0 (0 is greedy)");
  check(p.top_p > 0.0f && p.top_p <= 1.0f, "top_p", p.top_p, "above 0 and at most 1 (1 is off)");
  check(p.top_k >= 0, "top_k", p.top_k, "at least 0 (0 is off)");
  check(p.min_p >= 0.0f && p.min_p <= 1.0f, "min_p", p.min_p, "between 0 (off) and 1");
  check(p.repetition_penalty > 0.0f && std::isfinite(p.repetition_penalty), "repetition_penalty", p.repetition_penalty,
        "above 0 (1 is off)");
  check(std::abs(p.presence_penalty) <= 2.0f, "presence_penalty", p.presence_penalty, "between -2 and 2");
  check(std::abs(p.frequency_penalty) <= 2.0f, "frequency_penalty", p.frequency_penalty, "between -2 and 2");
  check(p.logprobs >= 0, "logprobs", p.logprobs, "at least 0");
  for (const std::string& stop : p.stop)
    if (stop.empty()) problems.push_back("stop holds an empty string; give at least one character, or leave it out");
  return problems;
}

double log_sum_exp(std::span<const float> logits) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return static_cast<double>(largest) + std::log(sum);
}

int32_t argmax(std::span<const float> logits) {
  int32_t best = 0;
  const Likelier likelier{logits};
  for (int32_t id = 1; id < std::ssize(logits); ++id)
    if (likelier(id, best)) best = id;
  return best;
}

Sampler::Sampler(const SamplingParams& params, uint64_t seed, std::span<const int32_t> prompt)
    : params_(params), seed_(seed) {
  for (const int32_t id : prompt) occurred_.emplace(id, 0);
}

TokenLogprob Sampler::sample(std::span<const float> logits) {
  const double normaliser = log_sum_exp(logits);
  const auto logprob = [&](int32_t id) { return static_cast<float>(static_cast<double>(logits[id]) - normaliser); };
  TokenLogprob result;
  if (!std::isfinite(normaliser)) return result;
  if (params_.logprobs > 0) {
    candidates_.resize(logits.size());
    std::iota(candidates_.begin(), candidates_.end(), 0);
    keep_likeliest(candidates_, params_.logprobs, logits);
    for (const int32_t id : candidates_) result.top.emplace_back(id, logprob(id));
  }
  const bool penalties =
      params_.repetition_penalty != 1.0f || params_.presence_penalty != 0.0f || params_.frequency_penalty != 0.0f;
  if (!penalties) {
    result.token = draw(logits);
    result.logprob = logprob(result.token);
  } else {
    std::vector<float> penalised(logits.begin(), logits.end());
    penalise(penalised);
    result.token = draw(penalised);
    result.logprob = logprob(result.token);
  }
  ++index_;
  ++occurred_[result.token];
  return result;
}

// Repetition: Keskar et al. 2019 (CTRL), over prompt and output. Presence and frequency: over the output.
void Sampler::penalise(std::span<float> logits) const {
  for (const auto& [id, times] : occurred_) {
    if (id < 0 || id >= std::ssize(logits)) continue;
    float& logit = logits[id];
    logit = logit > 0.0f ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    if (times > 0) logit -= params_.presence_penalty + params_.frequency_penalty * static_cast<float>(times);
  }
}

int32_t Sampler::draw(std::span<const float> logits) {
  const int32_t best = argmax(logits);
  if (params_.temperature == 0.0f) return best;
  candidates_.resize(logits.size());
  std::iota(candidates_.begin(), candidates_.end(), 0);
  if (params_.top_k > 0) keep_likeliest(candidates_, params_.top_k, logits);
  const auto weigh = [&] {
    weights_.resize(candidates_.size());
    double total = 0.0;
    for (size_t i = 0; i < candidates_.size(); ++i)
      total += weights_[i] =
          std::isnan(logits[candidates_[i]])
              ? 0.0
              : std::exp((static_cast<double>(logits[candidates_[i]]) - logits[best]) / params_.temperature);
    return total;
  };
  double total = 0.0;
  if (params_.top_p < 1.0f) {
    std::sort(candidates_.begin(), candidates_.end(), Likelier{logits});
    total = weigh();
    size_t kept = 0;
    double mass = 0.0;
    while (kept < candidates_.size() && mass < params_.top_p * total) mass += weights_[kept++];
    candidates_.resize(kept);
  }
  if (params_.min_p > 0.0f)  // relative to the likeliest, whose weight is 1
    std::erase_if(candidates_, [&](int32_t id) {
      return !(std::exp((static_cast<double>(logits[id]) - logits[best]) / params_.temperature) >= params_.min_p);
    });
  total = weigh();
  double rest = uniform(seed_, index_) * total;
  for (size_t i = 0; i < candidates_.size(); ++i)
    if ((rest -= weights_[i]) < 0.0) return candidates_[i];
  return best;  // rounding used the last of it up
}

}  // namespace shoal
