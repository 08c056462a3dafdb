// SPDX-License-Identifier: Apache-2.0
#include "apps/prompts.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_file.h"
#include "text/chat_template.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr size_t kLabelBytes = 60;

class PromptReader {
 public:
  explicit PromptReader(const fs::path& model_dir) : model_dir_(model_dir) {
    if (!fs::is_directory(model_dir)) {
      throw Error(
          ErrorKind::kInvalid,
          model_dir.string() + " is not a directory; give a model directory with config.json and *.safetensors");
    }
    if (fs::exists(model_dir / "tokenizer.json")) prompts_.tokenizer = Tokenizer::load(model_dir);
  }

  void add_text(const std::string& text) {
    add(tokenizer("a text prompt").encode(text, true), printable(text, kLabelBytes));
  }

  void add_messages(const Json& messages) {
    const Tokenizer& tokens = tokenizer("a chat");
    if (!chat_) chat_ = ChatTemplate::load(model_dir_);
    ChatOptions options;
    options.add_generation_prompt = true;
    options.set_special_tokens(tokens);
    add(encode_chat(tokens, *chat_, messages, options), "chat: " + printable(last_content(messages), kLabelBytes));
  }

  void add_item(const Json& item) {
    if (item.is_string()) return add_text(item.get<std::string>());
    if (item.is_array()) return add_ids(item);
    if (item.is_object() && item.size() == 1 && item.contains("messages") && item["messages"].is_array())
      return add_messages(item["messages"]);
    throw Error(ErrorKind::kInvalid, "must be a list of token ids, a string, or {\"messages\": [...]}");
  }

  Prompts take() { return std::move(prompts_); }

 private:
  const Tokenizer& tokenizer(const char* what) const {
    if (!prompts_.tokenizer) {
      throw Error(ErrorKind::kInvalid, fmt::format("{} needs {}, which is missing; give token ids with --prompts", what,
                                                   (model_dir_ / "tokenizer.json").string()));
    }
    return *prompts_.tokenizer;
  }

  void add_ids(const Json& item) {
    std::vector<int32_t> ids;
    for (const Json& id : item) {
      const bool fits = id.is_number_integer() && id >= 0 && id <= std::numeric_limits<int32_t>::max();
      if (!fits) throw Error(ErrorKind::kInvalid, fmt::format("{} is no token id", printable(id.dump(), kLabelBytes)));
      ids.push_back(id.get<int32_t>());
    }
    const std::string label = fmt::format("{} token ids", ids.size());
    add(std::move(ids), label);
  }

  void add(std::vector<int32_t> ids, std::string label) {
    prompts_.ids.push_back(std::move(ids));
    prompts_.labels.push_back(std::move(label));
  }

  static std::string last_content(const Json& messages) {
    if (messages.empty() || !messages.back().is_object()) return {};
    const auto content = messages.back().find("content");
    return content != messages.back().end() && content->is_string() ? content->get<std::string>() : std::string();
  }

  fs::path model_dir_;
  Prompts prompts_;
  std::optional<ChatTemplate> chat_;
};

void read_file(PromptReader& reader, const std::string& file) {
  const Json document = read_json_file(file);
  const auto list = document.is_object() ? document.find("prompts") : document.end();
  if (!document.is_object() || list == document.end() || !list->is_array())
    throw Error(ErrorKind::kInvalid, fmt::format("{}: must be {{\"prompts\": [...]}}", file));
  Problems problems;
  for (size_t i = 0; i < list->size(); ++i) {
    try {
      reader.add_item((*list)[i]);
    } catch (const Error& error) {
      problems.add(fmt::format("prompt {}: {}", i, error.what()));
    }
  }
  if (problems.list().size() == 1)
    throw Error(ErrorKind::kInvalid, fmt::format("{}: {}", file, problems.list().front()));
  problems.throw_if_any(fmt::format("{}: {} of {} prompts are wrong:", file, problems.list().size(), list->size()));
}

}  // namespace

Prompts read_prompts(const fs::path& model_dir, const PromptSources& sources) {
  PromptReader reader(model_dir);
  for (const std::string& text : sources.texts) reader.add_text(text);
  for (const std::string& text : sources.chats)
    reader.add_messages(Json::array({{{"role", "user"}, {"content", text}}}));
  if (!sources.file.empty()) read_file(reader, sources.file);
  Prompts prompts = reader.take();
  if (prompts.ids.empty())
    throw Error(ErrorKind::kInvalid, "there is no prompt; give --prompt, --chat, or a file of them");
  return prompts;
}

}  // namespace shoal
