// SPDX-License-Identifier: Apache-2.0
// Answers as OpenAI's clients read them: whole ones and chunks of streams, of chats and completions. Pure functions of values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/api/fields.h"
#include "text/tokenizer.h"
#include "text/tool_calls.h"

namespace shoal {

// What is told of one choice at a time: all of it, or what has come since the last chunk.
struct Piece {
  int64_t index = 0;
  bool first = true;  // nothing of the choice has been told yet
  std::string text;   // a chat's content
  std::string reasoning;
  std::vector<ToolCallDelta> tool_calls;
  std::vector<TokenLogprob> logprobs;
  std::vector<int32_t> token_ids;
  int64_t text_offset = 0;    // of `text` in the choice's whole text, in characters
  std::string finish_reason;  // empty: not finished
};

struct AnswerStyle {
  bool chat = false;
  bool logprobs = false;
  int64_t top_logprobs = 0;
  bool token_id_names = false;
  bool token_ids = false;
  const Tokenizer* tokenizer = nullptr;  // null: tokens are named by their ids
};

Json whole_choice(const Piece& piece, const AnswerStyle& style);
Json chunk_choice(const Piece& piece, const AnswerStyle& style);

struct Usage {
  int64_t prompt = 0, generated = 0, cached = 0, reasoning = 0;
};
Json usage_json(const Usage& usage);

// "stop", "length"; with `called_tools` "tool_calls" in place of "stop".
std::string finish_text(FinishReason reason, bool called_tools);

}  // namespace shoal
