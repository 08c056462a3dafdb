// SPDX-License-Identifier: Apache-2.0
// What an assistant's text holds besides its answer: reasoning and tool calls, in the markup that the model's chat template teaches it.
// AssistantParser takes the text as it comes and gives back OpenAI's pieces. Invariants: how the text was cut into pieces changes
// nothing in the concatenation of what comes out; markup that never becomes a call comes out as content, so no text is lost.
// Not here: which calls are allowed (grammar/), HTTP.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

enum class ToolFormat : uint8_t {
  kNone,           // the template knows no tools
  kHermes,         // <tool_call>{"name": …, "arguments": {…}}</tool_call>: Qwen2.5, Qwen3, Hermes
  kLlamaJson,      // {"name": …, "parameters": {…}}, after <|python_tag|> or alone: Llama 3.1 to 3.3
  kLlamaPythonic,  // [name(key=value, …), …]: Llama 3.2, Llama 4
  kDeepSeek,       // <｜tool▁calls▁begin｜> …: DeepSeek-V3, R1, V3.1
  kHarmony,        // <|channel|>commentary to=functions.name …: gpt-oss
  kMistral,        // [TOOL_CALLS] [{"name": …, "arguments": {…}}], or [TOOL_CALLS]name[ARGS]{…}
  kTagged,         // <tool_call>name <arg_key>k</arg_key> …, or <tool_call><function=name> …: GLM-4.5, Qwen3-Coder
  kKimi,           // <|tool_call_begin|>functions.name:0<|tool_call_argument_begin|>{…}<|tool_call_end|>: Kimi-K2
};

// How to read what a model says, found in the source of its chat template.
struct AssistantFormat {
  ToolFormat tools = ToolFormat::kNone;
  std::string think_begin, think_end;  // marks around reasoning; empty: the model has none
  // Special tokens are part of the markup: SamplingParams::skip_special_tokens must be false, and the parser takes them out.
  bool needs_special_tokens = false;
  bool json_fence = false;  // DeepSeek-V3 before V3.1: "function", the name on a line, arguments within ```json
};
AssistantFormat assistant_format(std::string_view chat_template);

struct ToolCallDelta {
  size_t index = 0;  // of the call in this answer
  std::string id;    // with the first delta of a call only, as the name
  std::string name;
  std::string arguments;  // the next piece of a JSON object
};

struct AssistantDelta {
  std::string content;
  std::string reasoning;
  std::vector<ToolCallDelta> tool_calls;
  bool empty() const { return content.empty() && reasoning.empty() && tool_calls.empty(); }
};

// Whether the end of the rendered prompt has begun the reasoning.
bool reasoning_begun(const AssistantFormat& format, std::string_view prompt_tail);

class AssistantParser {
 public:
  // `prompt_tail`: the end of the rendered prompt, which may have begun the reasoning itself ("…<think>\n"). Without `tools`, tool markup is
  // content. `id_seed` makes the ids of calls; it should differ between answers.
  AssistantParser(const AssistantFormat& format, std::string_view prompt_tail, bool tools, std::string_view id_seed);
  ~AssistantParser();
  AssistantParser(AssistantParser&&) noexcept;

  AssistantDelta push(std::string_view text);
  // The end: what was held back.
  AssistantDelta finish();
  // finish_reason is then "tool_calls" where it would be "stop".
  bool called_tools() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal
