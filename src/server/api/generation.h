// SPDX-License-Identifier: Apache-2.0
// Requests to generate, as OpenAI's clients and vLLM's users write them -> what the engine is to do. Everything that can be found wrong
// without the engine is found here, as an ApiError that names the field. Not here: running it (session.h), what the engine itself refuses.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "server/api/fields.h"
#include "server/api/model_text.h"

namespace shoal {

struct ApiLimits {
  int64_t max_n = 128;
  int64_t max_stop = 16;
  int64_t max_logprobs = 20;
  int64_t max_prompts = 1024;
  bool strict = false;  // unknown fields are refused
};

struct Generation {
  bool chat = false;
  std::string model;  // as asked for; empty: not said
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  int64_t n = 1;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<std::string> prompt_texts;  // with `echo`
  SamplingParams params;                  // but for max_tokens
  std::optional<int64_t> max_tokens;      // absent: what there is room for
  SchedulingParams scheduling;
  bool logprobs = false;
  bool echo = false;                 // completions: the prompt comes before the text
  bool token_id_names = false;       // tokens in logprobs are "token_id:5"
  bool token_ids = false;            // answers carry the ids too
  bool parse = false;                // the text may hold reasoning or tool calls
  bool tools = false;                // tool calls are to be found
  std::string prompt_tail;           // end of a chat's rendered prompt
  std::vector<std::string> ignored;  // fields without effect here
};

Generation read_chat(const Json& body, const ModelText& model, const ApiLimits& limits);
Generation read_completion(const Json& body, const ModelText& model, const ApiLimits& limits);

// A chat's prompt: the template's variables from the request's fields, and what it renders.
struct RenderedChat {
  std::string text;
  std::vector<int32_t> ids;
};
RenderedChat render_chat(Fields& fields, const ModelText& model);
// ApiError that names the field if the model has none.
const Tokenizer& need_tokenizer(const ModelText& model, const std::string& param);

}  // namespace shoal
