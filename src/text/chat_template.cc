// SPDX-License-Identifier: Apache-2.0
#include "text/chat_template.h"

#include <stdexcept>

#include "base/error.h"
#include "base/json_file.h"
#include "text/jinja/builtins.h"
#include "text/jinja/parser.h"
#include "text/utf8.h"

namespace shoal {
namespace {

using nlohmann::ordered_json;
using text::jinja::Arguments;
using text::jinja::Run;
using text::jinja::Value;

Value raise_exception(Run& run, const Arguments& arguments) {
  const Value* message = arguments.find(0, "message");
  throw std::invalid_argument("the template refuses these messages: " +
                              (message != nullptr ? run.text_of(*message) : std::string()));
}

Value strftime_now(std::time_t now, const Arguments& arguments) {
  const std::string format = text::jinja::string_argument(arguments, 0, "format", nullptr);
  if (format.size() > 200) throw std::invalid_argument("strftime_now: the format is longer than 200 characters");
  std::tm local{};
  localtime_r(&now, &local);
  char text[4096];
  return std::string(text, std::strftime(text, sizeof(text), format.c_str(), &local));
}

std::vector<std::pair<std::string, Value>> variables_of(const ordered_json& messages, const ChatOptions& options) {
  const std::time_t now = options.now.value_or(std::time(nullptr));
  std::vector<std::pair<std::string, Value>> variables = {
      {"raise_exception", Value::callable(raise_exception)},
      {"strftime_now",
       Value::callable([now](Run&, const Arguments& arguments) { return strftime_now(now, arguments); })},
      {"messages", Value::from_json(messages)},
      {"tools", Value::from_json(options.tools)},
      {"documents", Value::from_json(options.documents)},
      {"add_generation_prompt", options.add_generation_prompt},
  };
  for (const auto& [name, token] : options.special_tokens) variables.emplace_back(name, token);
  for (const auto& [name, value] : options.variables.items()) variables.emplace_back(name, Value::from_json(value));
  return variables;
}

std::string named_template(const ordered_json& list, std::string_view name, const std::string& where) {
  std::string names;
  for (const auto& entry : list) {
    if (!entry.is_object() || !entry.contains("name") || !entry.contains("template") || !entry["name"].is_string() ||
        !entry["template"].is_string())
      throw Error(ErrorKind::kInvalid, where + ": each entry of chat_template must have a name and a template");
    if (entry["name"].get<std::string>() == name) return entry["template"].get<std::string>();
    names += (names.empty() ? "" : ", ") + entry["name"].get<std::string>();
  }
  throw Error(ErrorKind::kInvalid,
              where + ": no chat template is called '" + std::string(name) + "'; there are: " + names);
}

}  // namespace

ChatTemplate ChatTemplate::parse(std::string_view source) {
  if (!text::is_valid_utf8(source)) throw Error(ErrorKind::kInvalid, "chat template: not valid UTF-8");
  return ChatTemplate(std::make_shared<const text::jinja::Block>(text::jinja::parse_template(source)),
                      std::string(source));
}

ChatTemplate ChatTemplate::load(const std::filesystem::path& model_dir, std::string_view name) {
  const std::filesystem::path own = model_dir / "chat_template.jinja", config = model_dir / "tokenizer_config.json";
  if (std::filesystem::is_regular_file(own)) return parse(read_text_file(own));
  if (std::filesystem::is_regular_file(config)) {
    const ordered_json json = ordered_json::parse(read_text_file(config), nullptr, false);
    if (!json.is_object()) throw Error(ErrorKind::kInvalid, config.string() + ": must be a JSON object");
    const auto it = json.find("chat_template");
    if (it != json.end() && it->is_string()) return parse(it->get<std::string>());
    if (it != json.end() && it->is_array()) return parse(named_template(*it, name, config.string()));
  }
  throw Error(ErrorKind::kInvalid,
              model_dir.string() + ": the model has no chat template; give a plain prompt, or add chat_template.jinja");
}

std::string ChatTemplate::render(const ordered_json& messages, const ChatOptions& options) const {
  if (!messages.is_array())
    throw Error(ErrorKind::kInvalid, "messages must be a list of {\"role\", \"content\"} objects");
  Run run(options.limits, variables_of(messages, options));
  return run.render(*block_);
}

std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat, const ordered_json& messages,
                                 ChatOptions options) {
  if (options.special_tokens.empty()) options.set_special_tokens(tokenizer);
  return tokenizer.encode_rendered(chat.render(messages, options));
}

}  // namespace shoal
