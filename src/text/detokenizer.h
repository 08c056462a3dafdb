// SPDX-License-Identifier: Apache-2.0
// Text of a growing list of tokens, piece by piece. Invariants: the pieces together are Tokenizer::decode of all the ids; each piece
// is valid UTF-8 of whole characters, and nothing once handed out is ever taken back. A run of byte-fallback tokens comes out when
// it ends, since a bad byte late in the run changes how all of it is read.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "text/tokenizer.h"

namespace shoal {

class Detokenizer {
 public:
  Detokenizer(Tokenizer tokenizer, bool skip_special_tokens)
      : tokenizer_(std::move(tokenizer)), stream_(tokenizer_.decode_stream()), skip_special_(skip_special_tokens) {}

  // Reads ids whose text is already known (a prompt), so that what follows is decoded as its continuation: a SentencePiece-style
  // decoder strips the space before the first token only.
  void skip(std::span<const int32_t> ids) {
    for (const int32_t id : ids) push(id);
  }
  // The text that this id made certain; often its own, sometimes empty.
  std::string push(int32_t id) {
    if (!skip_special_ || !tokenizer_.is_special(id)) stream_.push(tokenizer_.decode_text(id));
    return stream_.take();
  }
  // The rest; an unfinished character becomes U+FFFD. Nothing may be pushed afterwards.
  std::string finish() {
    stream_.finish();
    return stream_.take();
  }

 private:
  Tokenizer tokenizer_;
  text::DecodeStream stream_;
  bool skip_special_;
};

}  // namespace shoal
