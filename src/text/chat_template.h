// SPDX-License-Identifier: Apache-2.0
// Chat templates: the Jinja template that ships with a model turns a list of messages into its prompt, with the environment that
// Hugging Face transformers gives it (trim_blocks, lstrip_blocks, immutable values, raise_exception, strftime_now, tojson).
// Invariants: immutable after parsing, usable from many threads; a bad template or what it refuses is an Error with the line; time,
// depth and size of a rendering are bounded. Not here: what a message may contain, which is between the template and its caller.
#pragma once

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/run.h"
#include "text/tokenizer.h"

namespace shoal {

struct ChatOptions {
  bool add_generation_prompt = false;
  nlohmann::ordered_json tools;      // null: none
  nlohmann::ordered_json documents;  // null: none
  // More variables (chat_template_kwargs), such as enable_thinking; they win over all others.
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  // "bos_token" and so on with their text.
  std::vector<std::pair<std::string, std::string>> special_tokens;
  std::optional<std::time_t> now;  // what strftime_now sees; absent: the clock
  text::jinja::Limits limits;

  void set_special_tokens(const Tokenizer& tokenizer) { special_tokens = tokenizer.special_tokens(); }
};

class ChatTemplate {
 public:
  static ChatTemplate parse(std::string_view source);
  // chat_template.jinja, else the `chat_template` of tokenizer_config.json: a string, or a list of {"name", "template"}, of which
  // `name` is taken ("tool_use" if there are tools is the caller's choice). Error(kInvalid) if the directory has none.
  static ChatTemplate load(const std::filesystem::path& model_dir, std::string_view name = "default");

  // `messages`: a list of {"role", "content", …}; the content a string, null, or a list of parts.
  std::string render(const nlohmann::ordered_json& messages, const ChatOptions& options) const;

  const std::string& source() const { return *source_; }

 private:
  ChatTemplate(std::shared_ptr<const text::jinja::Block> block, std::string source)
      : block_(std::move(block)), source_(std::make_shared<const std::string>(std::move(source))) {}
  std::shared_ptr<const text::jinja::Block> block_;
  std::shared_ptr<const std::string> source_;
};

// The ids of the rendered prompt. Where both the template and the tokenizer would put BOS in front, there is one.
std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat,
                                 const nlohmann::ordered_json& messages, ChatOptions options);

}  // namespace shoal
