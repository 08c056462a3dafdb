// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "engine/random.h"

namespace shoal {
namespace {

constexpr int64_t kFewTokens = 2048;  // of a mask: taken one by one instead of the whole row
constexpr int32_t kNothingAllowed = -2;

bool is_stop(std::span<const int32_t> stop_ids, int32_t token) {
  return std::find(stop_ids.begin(), stop_ids.end(), token) != stop_ids.end();
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
  check(p.min_tokens >= 0 && p.min_tokens <= p.max_tokens, "min_tokens", p.min_tokens, "from 0 to max_tokens");
  for (const auto& [token, bias] : p.logit_bias)
    if (!(std::abs(bias) <= 100.0f))
      problems.push_back(fmt::format("logit_bias of token {} is {}; it must be between -100 and 100", token, bias));
  for (const std::string& stop : p.stop)
    if (stop.empty()) problems.push_back("stop holds an empty string; give at least one character, or leave it out");
  return problems;
}

double log_sum_exp(std::span<const float> logits) {
  LogitBlocks blocks;
  blocks.scan(logits, 0.0f);
  return blocks.log_sum_exp();
}

int32_t argmax(std::span<const float> logits) {
  LogitBlocks blocks;
  blocks.scan(logits, 0.0f);
  return blocks.argmax();
}

const char* sampling_failure(int32_t token) {
  return token == kNothingAllowed
             ? "no token can follow: min_tokens or the constraint forbids all that the vocabulary has"
             : "the model's logits are not finite numbers; are its weights damaged?";
}

Sampler::Sampler(const SamplingParams& params, uint64_t seed, std::span<const int32_t> prompt,
                 std::span<const int32_t> stop_ids)
    : params_(params),
      inverse_temperature_(params.temperature > 0.0f ? 1.0f / params.temperature : 0.0f),
      seed_(seed),
      stop_ids_(stop_ids.begin(), stop_ids.end()) {
  for (const int32_t id : prompt) occurred_.emplace(id, 0);
  if (params.constraint) constraint_.emplace(params.constraint);
}

TokenLogprob Sampler::sample(std::span<const float> logits) {
  TokenLogprob result;
  const bool changes = changes_logits();
  blocks_.scan(logits, changes ? 0.0f : inverse_temperature_);
  const double normaliser = blocks_.log_sum_exp();
  if (!std::isfinite(normaliser)) return result;
  const auto logprob = [&](int32_t id) { return static_cast<float>(static_cast<double>(logits[id]) - normaliser); };
  if (params_.logprobs > 0) {
    blocks_.likeliest(params_.logprobs, candidates_);
    for (const int32_t id : candidates_) result.top.emplace_back(id, logprob(id));
  }
  result.token = changes ? choose_changed(logits) : choose(blocks_, logits);
  if (result.token < 0) {
    result.token = kNothingAllowed;
    return result;
  }
  result.logprob = logprob(result.token);
  accept(result.token);
  result.ends_text = constraint_ && constraint_->must_end();
  return result;
}

void Sampler::accept(int32_t token) {
  ++index_;
  ++occurred_[token];
  if (constraint_ && !is_stop(stop_ids_, token)) constraint_->accept(token);
}

bool Sampler::changes_logits() const {
  return constraint_ || !params_.logit_bias.empty() || static_cast<int64_t>(index_) < params_.min_tokens ||
         params_.repetition_penalty != 1.0f || params_.presence_penalty != 0.0f || params_.frequency_penalty != 0.0f;
}

int32_t Sampler::choose_changed(std::span<const float> logits) {
  change(logits);
  if (constraint_) {
    if (fill_mask() <= kFewTokens) return choose_of_mask();
    for (size_t id = 0; id < changed_.size(); ++id)
      if ((mask_[id / 64] >> (id % 64) & 1) == 0) changed_[id] = kMinusInfinity;
  }
  blocks_.scan(changed_, inverse_temperature_);
  return choose(blocks_, changed_);
}

void Sampler::change(std::span<const float> logits) {
  changed_.assign(logits.begin(), logits.end());
  const auto at = [&](int32_t id) { return id >= 0 && id < std::ssize(changed_) ? &changed_[id] : nullptr; };
  for (const auto& [id, bias] : params_.logit_bias)
    if (float* logit = at(id)) *logit += bias;
  penalise();
  if (static_cast<int64_t>(index_) >= params_.min_tokens) return;
  for (const int32_t id : stop_ids_)
    if (float* logit = at(id)) *logit = kMinusInfinity;
}

// Repetition: Keskar et al. 2019 (CTRL), over prompt and output. Presence and frequency: over the output.
void Sampler::penalise() {
  for (const auto& [id, times] : occurred_) {
    if (id < 0 || id >= std::ssize(changed_)) continue;
    float& logit = changed_[id];
    logit = logit > 0.0f ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    if (times > 0) logit -= params_.presence_penalty + params_.frequency_penalty * static_cast<float>(times);
  }
}

// What the constraint allows next, and the tokens that end the text where it may end. Returns their number.
int64_t Sampler::fill_mask() {
  mask_.resize((changed_.size() + 63) / 64);
  constraint_->fill_mask(mask_);
  for (const int32_t id : stop_ids_) {
    if (id < 0 || id >= std::ssize(changed_)) continue;
    const uint64_t bit = uint64_t{1} << (id % 64);
    uint64_t& word = mask_[static_cast<size_t>(id) / 64];
    word = constraint_->may_end() ? word | bit : word & ~bit;
  }
  int64_t count = 0;
  for (const uint64_t word : mask_) count += std::popcount(word);
  return count;
}

int32_t Sampler::choose_of_mask() {
  candidates_.clear();
  for (size_t word = 0; word < mask_.size(); ++word)
    for (uint64_t bits = mask_[word]; bits != 0; bits &= bits - 1) {
      const auto id = static_cast<int32_t>(64 * word + static_cast<size_t>(std::countr_zero(bits)));
      if (id < std::ssize(changed_) && changed_[id] > kMinusInfinity) candidates_.push_back(id);
    }
  if (candidates_.empty()) return -1;
  const Likelier likelier{changed_};
  if (params_.temperature == 0.0f) return *std::min_element(candidates_.begin(), candidates_.end(), likelier);
  std::sort(candidates_.begin(), candidates_.end(), likelier);
  if (params_.top_k > 0 && params_.top_k < std::ssize(candidates_)) candidates_.resize(params_.top_k);
  return draw(changed_, -1.0);
}

int32_t Sampler::choose(const LogitBlocks& blocks, std::span<const float> logits) {
  if (params_.temperature == 0.0f) return blocks.argmax();
  if (params_.top_k > 0) {
    blocks.likeliest(params_.top_k, candidates_);
    return draw(logits, -1.0);
  }
  if (params_.top_p < 1.0f) {
    // Mostly a few tokens hold the mass; else more are sorted.
    for (int64_t count = 128;; count *= 8) {
      blocks.likeliest(count, candidates_);
      double mass = 0.0;
      for (const int32_t id : candidates_) mass += weight(logits[id], blocks.largest());
      if (mass >= params_.top_p * blocks.scaled_mass() || count >= std::ssize(logits)) break;
    }
    return draw(logits, blocks.scaled_mass());
  }
  if (params_.min_p == 0.0f) return blocks.draw(uniform(seed_, index_));
  // A little lower than the bound, which is looked at exactly below.
  blocks.at_least(blocks.largest() + params_.temperature * (std::log(params_.min_p) - 1e-3f), candidates_);
  std::sort(candidates_.begin(), candidates_.end(), Likelier{logits});
  return draw(logits, -1.0);
}

double Sampler::weight(float logit, float largest) const {
  return std::exp((static_cast<double>(logit) - static_cast<double>(largest)) /
                  static_cast<double>(params_.temperature));
}

// From candidates_, likeliest first; `total` is the mass that top-p is a share of, negative: that of the candidates.
int32_t Sampler::draw(std::span<const float> logits, double total) {
  if (candidates_.empty()) return -1;
  const float largest = logits[candidates_.front()];
  if (largest == kMinusInfinity) return -1;
  weights_.resize(candidates_.size());
  double mass = 0.0;
  for (size_t i = 0; i < candidates_.size(); ++i) mass += weights_[i] = weight(logits[candidates_[i]], largest);
  size_t kept = candidates_.size();
  if (params_.top_p < 1.0f) {
    const double enough = params_.top_p * (total < 0.0 ? mass : total);
    mass = 0.0;
    for (kept = 0; kept < weights_.size() && mass < enough; ++kept) mass += weights_[kept];
  }
  if (params_.min_p > 0.0f)  // relative to the likeliest, whose weight is 1
    while (kept > 1 && weights_[kept - 1] < params_.min_p) mass -= weights_[--kept];
  double rest = uniform(seed_, index_) * mass;
  for (size_t i = 0; i < kept; ++i)
    if ((rest -= weights_[i]) < 0.0) return candidates_[i];
  return candidates_.front();  // rounding used the last of it up
}

}  // namespace shoal
