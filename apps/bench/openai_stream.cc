// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/openai_stream.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/json_file.h"

namespace shoal::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostEventBytes = size_t{16} << 20;
constexpr size_t kPlainBytes = 4096;
constexpr size_t kShownBytes = 200;
constexpr int kOk = 200;

// A member that is there and not null.
const Json* member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string text_of(const Json* value) {
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

int64_t count_of(const Json& object, const char* key) {
  const Json* value = member(object, key);
  return value != nullptr && value->is_number_unsigned() ? value->get<int64_t>() : 0;
}

// The text of a choice, of a completion or a chat; reasoning and tool calls are output too.
std::string choice_text(const Json& choice) {
  const Json* delta = member(choice, "delta");
  if (delta == nullptr) return text_of(member(choice, "text"));
  std::string text = text_of(member(*delta, "reasoning_content")) + text_of(member(*delta, "reasoning")) +
                     text_of(member(*delta, "content"));
  if (const Json* calls = member(*delta, "tool_calls"))
    text += calls->dump(-1, ' ', false, Json::error_handler_t::replace);
  return text;
}

}  // namespace

void EventReader::feed(std::string_view bytes) {
  for (const char c : bytes) {
    const bool pair = c == '\n' && after_return_;
    after_return_ = c == '\r';
    if (pair) continue;
    if (c == '\n' || c == '\r') {
      end_line();
    } else if (line_.size() < kMostEventBytes) {
      line_ += c;
    }
  }
}

void EventReader::end_line() {
  const std::string line = std::exchange(line_, {});
  if (line.empty()) {
    if (std::exchange(has_data_, false)) on_data_(std::exchange(data_, {}));
    return;
  }
  if (!line.starts_with("data:")) return;  // comments, and fields of no interest
  const size_t start = line.size() > 5 && line[5] == ' ' ? 6 : 5;
  if (has_data_) data_ += '\n';
  data_ += line.substr(start);
  has_data_ = true;
}

OpenAiStream::OpenAiStream(RequestRecord& record)
    : record_(record), events_([this](std::string_view data) { on_data(data); }) {}

void OpenAiStream::on_body(std::string_view bytes, double now) {
  now_ = now;
  if (plain_.size() < kPlainBytes) plain_ += bytes.substr(0, kPlainBytes - plain_.size());
  if (status_ == kOk) events_.feed(bytes);
}

void OpenAiStream::on_data(std::string_view data) {
  if (data == "[DONE]") {
    done_ = true;
    return;
  }
  if (done_) return fail("the stream went on after [DONE]");
  on_chunk(data);
}

void OpenAiStream::on_chunk(std::string_view data) {
  const Json chunk = Json::parse(data, nullptr, false);
  if (!chunk.is_object()) return fail("the stream holds what is no JSON object: " + printable(data, kShownBytes));
  if (member(chunk, "error") != nullptr) return fail("the server says: " + error_text(data));
  if (const Json* usage = member(chunk, "usage"); usage != nullptr && usage->is_object()) {
    has_usage_ = true;
    record_.output_tokens = count_of(*usage, "completion_tokens");
    if (const int64_t prompt = count_of(*usage, "prompt_tokens"); prompt > 0) record_.input_tokens = prompt;
    if (const Json* details = member(*usage, "prompt_tokens_details"))
      record_.cached_tokens = count_of(*details, "cached_tokens");
  }
  const Json* choices = member(chunk, "choices");
  if (choices == nullptr || !choices->is_array() || choices->empty()) return;
  const Json& choice = choices->front();
  const std::string text = choice_text(choice);
  if (!text.empty()) {
    record_.pieces_s.push_back(now_);
    record_.text += text;
  }
  if (member(choice, "finish_reason") == nullptr) return;
  finished_ = true;
  finished_at_ = now_;
}

void OpenAiStream::fail(const std::string& error) {
  if (error_.empty()) error_ = error;
}

std::string OpenAiStream::verdict(const std::string& error) const {
  if (status_ != 0 && status_ != kOk) return fmt::format("HTTP {}: {}", status_, error_text(plain_));
  if (!error_.empty()) return error_;
  if (!error.empty()) return error;
  if (finished_ && done_) return {};
  if (plain_.empty()) return "the answer is empty";
  if (!done_ && !finished_) return "the stream broke off: neither a finish_reason nor [DONE] came";
  return done_ ? "the stream ended with [DONE] but no finish_reason" : "the stream ended without [DONE]";
}

void OpenAiStream::on_end(const std::string& error, double now) {
  record_.error = verdict(error);
  record_.ok = record_.error.empty();
  // An answer without any text, such as an end token alone, came when it ended.
  if (record_.ok && record_.pieces_s.empty()) record_.pieces_s.push_back(finished_at_);
  record_.end_s = record_.ok ? record_.pieces_s.back() : now;
  if (!has_usage_) record_.output_tokens = static_cast<int64_t>(record_.pieces_s.size());
}

std::string error_text(std::string_view body) {
  const Json json = Json::parse(body, nullptr, false);
  const Json* error = member(json, "error");
  const Json* message = error != nullptr && error->is_object() ? member(*error, "message") : member(json, "message");
  if (error != nullptr && error->is_string()) message = error;
  if (message != nullptr && message->is_string()) return printable(message->get<std::string>(), kShownBytes);
  return body.empty() ? "no text" : printable(body, kShownBytes);
}

}  // namespace shoal::bench
