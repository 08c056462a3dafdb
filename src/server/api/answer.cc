// SPDX-License-Identifier: Apache-2.0
#include "server/api/answer.h"

#include <fmt/format.h>

#include <cmath>

#include "text/utf8.h"

namespace shoal {
namespace {

// What an impossible token's log-probability is told as: JSON has no infinity.
constexpr float kLeastLogprob = -9999.0f;

double told(float logprob) { return std::isfinite(logprob) ? logprob : kLeastLogprob; }

std::string bytes_of(int32_t id, const AnswerStyle& style) {
  if (style.tokenizer == nullptr) return {};
  std::string bytes = style.tokenizer->token_bytes(id);
  return bytes.empty() ? std::string(style.tokenizer->token(id)) : bytes;
}

std::string token_name(int32_t id, const AnswerStyle& style) {
  if (style.token_id_names || style.tokenizer == nullptr) return fmt::format("token_id:{}", id);
  return bytes_of(id, style);
}

// As OpenAI's completions name tokens that are no text by themselves, so that names in a map stay apart.
std::string map_name(int32_t id, const AnswerStyle& style) {
  std::string name = token_name(id, style);
  if (text::is_valid_utf8(name)) return name;
  std::string escaped = "bytes:";
  for (const unsigned char byte : name) escaped += fmt::format("\\x{:02x}", byte);
  return escaped;
}

Json token_entry(int32_t id, float logprob, const AnswerStyle& style) {
  Json bytes = Json::array();
  for (const unsigned char byte : bytes_of(id, style)) bytes.push_back(byte);
  return {{"token", token_name(id, style)}, {"logprob", told(logprob)}, {"bytes", std::move(bytes)}};
}

Json chat_logprobs(const Piece& piece, const AnswerStyle& style) {
  if (!style.logprobs) return {};
  Json content = Json::array();
  for (const TokenLogprob& token : piece.logprobs) {
    Json entry = token_entry(token.token, token.logprob, style);
    Json& top = entry["top_logprobs"] = Json::array();
    for (const auto& [id, logprob] : token.top) top.push_back(token_entry(id, logprob, style));
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

// A prompt's first token has no log-probability; its entry's token is -1 - id.
Json completion_logprobs(const Piece& piece, const AnswerStyle& style) {
  if (!style.logprobs) return {};
  Json tokens = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
  int64_t offset = piece.text_offset;
  for (const TokenLogprob& token : piece.logprobs) {
    const bool known = token.token >= 0;
    const int32_t id = known ? token.token : -1 - token.token;
    tokens.push_back(map_name(id, style));
    values.push_back(known ? Json(told(token.logprob)) : Json());
    offsets.push_back(offset);
    offset += static_cast<int64_t>(text::count_code_points(text::repair_utf8(bytes_of(id, style))));
    Json top = Json::object();
    for (const auto& [other, logprob] : token.top) top[map_name(other, style)] = told(logprob);
    top[map_name(id, style)] = told(token.logprob);
    tops.push_back(known ? std::move(top) : Json());
  }
  return {{"text_offset", std::move(offsets)},
          {"token_logprobs", std::move(values)},
          {"tokens", std::move(tokens)},
          {"top_logprobs", style.top_logprobs > 0 ? std::move(tops) : Json()}};
}

Json finish_json(const Piece& piece) { return piece.finish_reason.empty() ? Json() : Json(piece.finish_reason); }

Json completion_choice(const Piece& piece, const AnswerStyle& style) {
  Json choice = {{"index", piece.index},
                 {"text", piece.text},
                 {"logprobs", completion_logprobs(piece, style)},
                 {"finish_reason", finish_json(piece)}};
  if (style.token_ids) choice["token_ids"] = piece.token_ids;
  return choice;
}

Json tool_call(const ToolCallDelta& call, bool indexed) {
  Json json = Json::object();
  if (indexed) json["index"] = call.index;
  if (!call.id.empty()) json.update({{"id", call.id}, {"type", "function"}});
  Json function = Json::object();
  if (!call.name.empty()) function["name"] = call.name;
  function["arguments"] = call.arguments;
  json["function"] = std::move(function);
  return json;
}

// Deltas of the same call put together.
std::vector<ToolCallDelta> whole_calls(const std::vector<ToolCallDelta>& deltas) {
  std::vector<ToolCallDelta> calls;
  for (const ToolCallDelta& delta : deltas) {
    if (delta.index >= calls.size()) calls.resize(delta.index + 1);
    ToolCallDelta& call = calls[delta.index];
    call.index = delta.index;
    call.id += delta.id;
    call.name += delta.name;
    call.arguments += delta.arguments;
  }
  return calls;
}

}  // namespace

Json whole_choice(const Piece& piece, const AnswerStyle& style) {
  if (!style.chat) return completion_choice(piece, style);
  const std::vector<ToolCallDelta> calls = whole_calls(piece.tool_calls);
  Json message = {{"role", "assistant"},
                  {"content", piece.text.empty() && !calls.empty() ? Json() : Json(piece.text)},
                  {"refusal", nullptr}};
  if (!piece.reasoning.empty()) message["reasoning_content"] = piece.reasoning;
  for (const ToolCallDelta& call : calls) message["tool_calls"].push_back(tool_call(call, false));
  Json choice = {{"index", piece.index},
                 {"message", std::move(message)},
                 {"logprobs", chat_logprobs(piece, style)},
                 {"finish_reason", finish_json(piece)}};
  if (style.token_ids) choice["token_ids"] = piece.token_ids;
  return choice;
}

Json chunk_choice(const Piece& piece, const AnswerStyle& style) {
  if (!style.chat) return completion_choice(piece, style);
  Json delta = Json::object();
  if (piece.first) delta.update({{"role", "assistant"}, {"content", ""}});
  if (!piece.text.empty()) delta["content"] = piece.text;
  if (!piece.reasoning.empty()) delta["reasoning_content"] = piece.reasoning;
  for (const ToolCallDelta& call : piece.tool_calls) delta["tool_calls"].push_back(tool_call(call, true));
  Json choice = {{"index", piece.index},
                 {"delta", std::move(delta)},
                 {"logprobs", style.logprobs && !piece.logprobs.empty() ? chat_logprobs(piece, style) : Json()},
                 {"finish_reason", finish_json(piece)}};
  if (style.token_ids) choice["token_ids"] = piece.token_ids;
  return choice;
}

Json usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt},
          {"completion_tokens", usage.generated},
          {"total_tokens", usage.prompt + usage.generated},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning}}}};
}

std::string finish_text(FinishReason reason, bool called_tools) {
  if (reason == FinishReason::kLength) return "length";
  return called_tools ? "tool_calls" : "stop";
}

}  // namespace shoal
