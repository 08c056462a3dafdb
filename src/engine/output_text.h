// SPDX-License-Identifier: Apache-2.0
// OutputText: the text of one request as its tokens come, stop strings taken out. Without a tokenizer there is no text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/request.h"
#include "text/detokenizer.h"
#include "text/stop.h"
#include "text/tokenizer.h"

namespace shoal {

class OutputText {
 public:
  OutputText(const std::optional<Tokenizer>& tokenizer, std::span<const int32_t> prompt, const SamplingParams& params)
      : stops_(params.stop, false) {
    if (!tokenizer) return;
    detokenizer_.emplace(*tokenizer, params.skip_special_tokens);
    detokenizer_->skip(prompt);
  }

  // What the token made certain.
  std::string push(int32_t id) { return detokenizer_ ? stops_.push(detokenizer_->push(id)) : std::string(); }
  bool stopped() const { return stops_.stopped(); }
  // What was held back; nothing if a stop string ended the text.
  std::string finish() {
    if (!detokenizer_ || stopped()) return {};
    std::string rest = stops_.push(detokenizer_->finish());
    return rest + stops_.finish();
  }

 private:
  std::optional<Detokenizer> detokenizer_;
  StopMatcher stops_;
};

}  // namespace shoal
