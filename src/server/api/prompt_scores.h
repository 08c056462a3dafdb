// SPDX-License-Identifier: Apache-2.0
// PromptScores: log-probabilities of a prompt's own tokens, from the logits of its positions, which come in any pieces from any threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "engine/live_request.h"

namespace shoal {

class PromptScores {
 public:
  PromptScores(std::vector<int32_t> prompt, int64_t top)
      : prompt_(std::move(prompt)), top_(top), scores_(prompt_.size()) {
    if (!prompt_.empty()) scores_[0].token = -1 - prompt_[0];  // the first has none (answer.h)
  }

  // Different positions may come at the same time.
  void add(const LogitRows& rows) {
    const size_t vocab = rows.values.size() / rows.rows;
    for (int64_t row = 0; row < rows.rows; ++row) {
      const size_t next = rows.first + row + 1;
      if (next < prompt_.size()) score(rows.values.subspan(row * vocab, vocab), scores_[next], prompt_[next]);
    }
  }
  std::vector<TokenLogprob> take() { return std::move(scores_); }

 private:
  void score(std::span<const float> logits, TokenLogprob& out, int32_t token) const {
    const auto norm = static_cast<float>(log_sum_exp(logits));
    out.token = token;
    out.logprob = logits[token] - norm;
    if (top_ == 0) return;
    std::vector<int32_t> ids(logits.size());
    std::iota(ids.begin(), ids.end(), 0);
    const auto end = ids.begin() + std::min<int64_t>(top_, std::ssize(ids));
    std::partial_sort(ids.begin(), end, ids.end(),
                      [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
    for (auto id = ids.begin(); id != end; ++id) out.top.emplace_back(*id, logits[*id] - norm);
  }

  std::vector<int32_t> prompt_;
  int64_t top_;
  std::vector<TokenLogprob> scores_;
};

}  // namespace shoal
