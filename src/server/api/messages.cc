// SPDX-License-Identifier: Apache-2.0
// The messages of a chat as clients write them -> as chat templates expect them, and the prompt that the template makes of them.
#include <fmt/format.h>

#include "base/error.h"
#include "base/json_file.h"
#include "server/api/generation.h"
#include "server/errors.h"

namespace shoal {
namespace {

ApiError message_error(const std::string& place, const std::string& text, const std::string& code = "invalid_value") {
  ApiError error(400, code, fmt::format("{} {}", place, text));
  error.param = place;
  return error;
}

// Parts of text, one after the other; templates of text models take strings.
std::string joined_parts(const Json& parts, const std::string& place) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    const Json& part = parts[i];
    const std::string here = fmt::format("{}[{}]", place, i);
    if (!part.is_object() || !part.contains("type") || !part["type"].is_string())
      throw message_error(here, "must be an object with a type");
    const std::string type = part["type"];
    if (type != "text" && type != "input_text" && type != "output_text" && type != "refusal")
      throw message_error(here, fmt::format("has type {}; this model reads text only", printable(type)),
                          "unsupported_content");
    const auto found = part.find(type == "refusal" ? "refusal" : "text");
    if (found == part.end() || !found->is_string()) throw message_error(here, "must have a text");
    if (i > 0) text += '\n';
    text += found->get<std::string>();
  }
  return text;
}

// Templates write arguments with tojson, so they must be values, not JSON as text.
void parse_arguments(Json& calls) {
  if (!calls.is_array()) return;
  for (Json& call : calls) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) continue;
    Json& function = call["function"];
    const auto arguments = function.find("arguments");
    if (arguments == function.end() || !arguments->is_string()) continue;
    Json value = Json::parse(arguments->get<std::string>(), nullptr, false);
    if (value.is_object()) *arguments = std::move(value);
  }
}

Json readable(const Json& message, const std::string& place, bool knows_developer) {
  if (!message.is_object()) throw message_error(place, "must be an object with role and content");
  Json copy = message;
  const auto role = copy.find("role");
  if (role == copy.end() || !role->is_string()) throw message_error(place + ".role", "must be a string");
  if (*role == "developer" && !knows_developer) *role = "system";  // OpenAI's newer name of it
  const auto content = copy.find("content");
  if (content != copy.end() && content->is_array()) {
    *content = joined_parts(*content, place + ".content");
  } else if (content != copy.end() && !content->is_string() && !content->is_null()) {
    throw message_error(place + ".content", "must be a string or a list of parts");
  } else if (content == copy.end() || content->is_null()) {
    if (!copy.contains("tool_calls")) throw message_error(place + ".content", "is missing");
    copy["content"] = "";
  }
  if (copy.contains("tool_calls")) parse_arguments(copy["tool_calls"]);
  return copy;
}

ChatOptions read_options(Fields& fields, const Tokenizer& tokenizer) {
  ChatOptions options;
  options.set_special_tokens(tokenizer);
  options.add_generation_prompt = fields.boolean("add_generation_prompt").value_or(true);
  if (const Json* tools = fields.array("tools"); tools != nullptr && !tools->empty()) {
    const Json* choice = fields.any("tool_choice");
    if (choice == nullptr || *choice != "none") options.tools = *tools;
  }
  if (const Json* documents = fields.array("documents")) options.documents = *documents;
  if (const Json* variables = fields.object("chat_template_kwargs")) options.variables = *variables;
  if (const auto effort = fields.text("reasoning_effort"); effort && !options.variables.contains("reasoning_effort"))
    options.variables["reasoning_effort"] = *effort;
  for (const char* name : {"chat_template", "continue_final_message"}) {
    const Json* value = fields.any(name);
    if (value != nullptr && *value != false) throw message_error(name, "is not supported", "unsupported_parameter");
  }
  return options;
}

}  // namespace

RenderedChat render_chat(Fields& fields, const ModelText& model) {
  const Tokenizer& tokenizer = need_tokenizer(model, "messages");
  if (!model.chat) {
    ApiError error(400, "chat_not_supported", "this model has no chat template: " + model.chat_problem);
    error.hint = "use /v1/completions";
    throw error;
  }
  const Json* messages = fields.array("messages");
  if (messages == nullptr || messages->empty()) fields.fail("messages", "a list of at least one message");
  const ChatOptions options = read_options(fields, tokenizer);
  const bool knows_developer = model.chat->source().find("developer") != std::string::npos;
  Json readable_messages = Json::array();
  for (size_t i = 0; i < messages->size(); ++i)
    readable_messages.push_back(readable((*messages)[i], fmt::format("messages[{}]", i), knows_developer));
  try {
    RenderedChat chat;
    chat.text = model.chat->render(readable_messages, options);
    chat.ids = tokenizer.encode_rendered(chat.text);
    return chat;
  } catch (const Error& error) {
    throw message_error("messages", fmt::format("do not suit the model's chat template: {}", error.what()),
                        "template_error");
  }
}

}  // namespace shoal
