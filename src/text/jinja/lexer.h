// SPDX-License-Identifier: Apache-2.0
// Template text to tokens, with Jinja's rules for white space as Hugging Face sets them: trim_blocks and lstrip_blocks on,
// keep_trailing_newline off, `-` and `+` at delimiters. Not here: grammar.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace shoal::text::jinja {

enum class TokenKind {
  kText,
  kOutputBegin,
  kOutputEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenKind kind;
  std::string text;  // of a string: its value
  int line;
};

// Error(kInvalid): "chat template, line 3: …".
[[noreturn]] void template_error(int line, const std::string& text, ErrorKind kind = ErrorKind::kInvalid);

std::vector<Token> tokenize(std::string_view source);

}  // namespace shoal::text::jinja
