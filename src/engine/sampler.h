// SPDX-License-Identifier: Apache-2.0
// Sampler of one request: a row of raw logits -> the next token and its log-probability. Order: log-softmax of the raw logits (what is
// reported); penalties; greedy, or temperature, top-k, top-p, min-p, each on what the one before left.
// Invariants: ties go to the lowest id; random numbers depend on (seed, token index) only; nothing depends on other requests.
// Not here: stop conditions and text (output_text.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/request.h"

namespace shoal {

// Every rule that the parameters break, each with the value; empty if none.
std::vector<std::string> sampling_problems(const SamplingParams& params);

class Sampler {
 public:
  Sampler(const SamplingParams& params, uint64_t seed, std::span<const int32_t> prompt);

  // The chosen token of `logits` [vocab] counts as output from here on. Token -1: the logits are not numbers.
  TokenLogprob sample(std::span<const float> logits);

 private:
  void penalise(std::span<float> logits) const;
  int32_t draw(std::span<const float> logits);

  SamplingParams params_;
  uint64_t seed_;
  uint64_t index_ = 0;                             // tokens sampled so far
  std::unordered_map<int32_t, int64_t> occurred_;  // token of prompt or output -> times in the output
  std::vector<int32_t> candidates_;                // scratch
  std::vector<double> weights_;                    // scratch
};

// log(sum(exp(logits))), accumulated in double.
double log_sum_exp(std::span<const float> logits);
// The lowest id among the largest; a NaN never wins.
int32_t argmax(std::span<const float> logits);

}  // namespace shoal
