// SPDX-License-Identifier: Apache-2.0
// Sampler of one request: a row of raw logits -> the next token and its log-probability. Order: log-softmax of the raw logits (what is
// reported); logit bias and penalties; what min_tokens and the constraint forbid; greedy, or temperature, top-k, top-p, min-p, each on what the one
// before left.
// Invariants: ties go to the lowest id; random numbers depend on (seed, token index) only; nothing depends on other requests; a row is
// read once, and only those of requests with penalties, bias or a constraint are copied.
// Not here: stop conditions and text (output_text.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/logit_blocks.h"
#include "engine/request.h"
#include "text/grammar/grammar.h"

namespace shoal {

// Every rule that the parameters break, each with the value; empty if none.
std::vector<std::string> sampling_problems(const SamplingParams& params);

// What a negative token of Sampler::sample means.
const char* sampling_failure(int32_t token);

class Sampler {
 public:
  // `stop_ids` end the text: they are not drawn before min_tokens, and with a constraint only where its text may end.
  Sampler(const SamplingParams& params, uint64_t seed, std::span<const int32_t> prompt,
          std::span<const int32_t> stop_ids = {});

  // The chosen token of `logits` [vocab] counts as output from here on. A negative token: there is none, sampling_failure() says why.
  TokenLogprob sample(std::span<const float> logits);

 private:
  bool changes_logits() const;
  int32_t choose_changed(std::span<const float> logits);
  void change(std::span<const float> logits);
  void penalise();
  int64_t fill_mask();
  int32_t choose(const LogitBlocks& blocks, std::span<const float> logits);
  int32_t choose_of_mask();
  int32_t draw(std::span<const float> logits, double total);
  double weight(float logit, float largest) const;
  void accept(int32_t token);

  SamplingParams params_;
  float inverse_temperature_;
  uint64_t seed_;
  uint64_t index_ = 0;                             // tokens sampled so far
  std::unordered_map<int32_t, int64_t> occurred_;  // token of prompt or output -> times in the output
  std::vector<int32_t> stop_ids_;
  std::optional<TokenConstraint> constraint_;
  // Scratch.
  LogitBlocks blocks_;
  std::vector<float> changed_;
  std::vector<uint64_t> mask_;
  std::vector<int32_t> candidates_;  // likeliest first
  std::vector<double> weights_;
};

// log(sum(exp(logits))), to a relative 1e-6.
double log_sum_exp(std::span<const float> logits);
// The lowest id among the largest; -1 if none is above minus infinity.
int32_t argmax(std::span<const float> logits);

}  // namespace shoal
