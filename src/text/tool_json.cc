// SPDX-License-Identifier: Apache-2.0
#include "text/tool_json.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace shoal::text {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// Empty if the piece is no JSON string.
std::string unquoted(const std::string& piece) {
  const auto value = nlohmann::json::parse(piece, nullptr, false);
  return value.is_string() ? value.get<std::string>() : std::string();
}

bool holds_arguments(const std::string& key) { return key == "arguments" || key == "parameters"; }

}  // namespace

JsonSpan::Place JsonSpan::feed(char c) {
  if (!begun_) {
    if (is_blank(c)) return Place::kBefore;
    begun_ = true;
    in_string_ = c == '"';
    scalar_ = !in_string_ && c != '{' && c != '[';
    depth_ = c == '{' || c == '[' ? 1 : 0;
    return Place::kInside;
  }
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
      if (depth_ == 0) return Place::kLast;
    }
    return Place::kInside;
  }
  if (scalar_) return is_blank(c) || c == ',' || c == '}' || c == ']' ? Place::kBehind : Place::kInside;
  if (c == '"') in_string_ = true;
  if (c == '{' || c == '[') ++depth_;
  if (c == '}' || c == ']') --depth_;
  return depth_ == 0 ? Place::kLast : Place::kInside;
}

CallObject::State CallObject::feed(char c) {
  switch (part_) {
    case Part::kOpen:
      if (is_blank(c)) return State::kReading;
      if (c != '{') return State::kNoCall;
      ++depth_;
      part_ = Part::kKey;
      span_ = {};
      return State::kReading;
    case Part::kKey:
      if (!span_.begun() && c == '}') return end_object();
      if (!span_.begun() && !is_blank(c) && c != '"') return State::kNoCall;
      if (!is_blank(c) || span_.begun()) piece_ += c;
      if (span_.feed(c) != JsonSpan::Place::kLast) return State::kReading;
      key_ = unquoted(std::exchange(piece_, {}));
      part_ = Part::kColon;
      return State::kReading;
    case Part::kColon:
      if (is_blank(c)) return State::kReading;
      if (c != ':') return State::kNoCall;
      span_ = {};
      part_ = key_ == "function" && depth_ == 1 ? Part::kOpen : Part::kValue;
      return State::kReading;
    case Part::kValue:
      return read_value(c);
    case Part::kComma:
      break;
  }
  if (is_blank(c)) return State::kReading;
  if (c == '}') return end_object();
  if (c != ',') return State::kNoCall;
  part_ = Part::kKey;
  span_ = {};
  return State::kReading;
}

CallObject::State CallObject::read_value(char c) {
  const JsonSpan::Place place = span_.feed(c);
  if (place == JsonSpan::Place::kInside || place == JsonSpan::Place::kLast) {
    piece_ += c;
    if (holds_arguments(key_) && piece_.front() != '"') arguments_ += c;
  }
  if (place == JsonSpan::Place::kLast || place == JsonSpan::Place::kBehind) end_value();
  return place == JsonSpan::Place::kBehind ? feed(c) : State::kReading;
}

void CallObject::end_value() {
  if (key_ == "name") name_ = unquoted(piece_);
  if (holds_arguments(key_)) {
    saw_arguments_ = true;
    if (piece_.front() == '"') arguments_ = unquoted(piece_);  // JSON within a string
  }
  piece_.clear();
  part_ = Part::kComma;
}

CallObject::State CallObject::end_object() {
  part_ = Part::kComma;
  if (--depth_ > 0) return State::kReading;
  if (!saw_arguments_) arguments_ = "{}";
  return name_.empty() ? State::kNoCall : State::kDone;
}

std::string CallObject::take_arguments() { return name_.empty() ? std::string() : std::exchange(arguments_, {}); }

}  // namespace shoal::text
