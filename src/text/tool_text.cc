// SPDX-License-Identifier: Apache-2.0
#include "text/tool_text.h"

#include <algorithm>
#include <cctype>

namespace shoal::text {
namespace {

using Json = nlohmann::ordered_json;

bool starts_name(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool in_name(char c) {
  return starts_name(c) || std::isdigit(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-';
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = std::min(text.find_first_not_of(kBlanks), text.size());
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

// Calls with keyword arguments and literals.
class PythonReader {
 public:
  explicit PythonReader(std::string_view text) : text_(text) {}

  bool read(std::vector<WrittenCall>& calls) {
    if (!take('[')) return false;
    do {
      WrittenCall call;
      if (!read_call(call)) return false;
      calls.push_back(std::move(call));
    } while (take(','));
    return take(']') && (skip(), at_ == text_.size());
  }

 private:
  static constexpr int kMaxDepth = 50;

  void skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  bool take(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  std::string name() {
    skip();
    const size_t begin = at_;
    if (at_ < text_.size() && starts_name(text_[at_]))
      while (at_ < text_.size() && in_name(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  bool read_call(WrittenCall& call) {
    call.name = name();
    if (call.name.empty() || !take('(')) return false;
    if (take(')')) return true;
    do {
      const std::string key = name();
      if (key.empty() || !take('=') || !value(call.arguments[key], 0)) return false;
    } while (take(','));
    return take(')');
  }

  bool value(Json& out, int depth) {
    skip();
    if (at_ >= text_.size() || depth > kMaxDepth) return false;
    const char c = text_[at_];
    if (c == '"' || c == '\'') return string(out);
    if (take('[')) return list(out, ']', depth);
    if (take('(')) return list(out, ')', depth);
    if (take('{')) return dict(out, depth);
    if (starts_name(c)) {
      const std::string word = name();
      if (word == "True" || word == "true")
        out = true;
      else if (word == "False" || word == "false")
        out = false;
      else if (word == "None" || word == "null")
        out = nullptr;
      else
        return false;
      return true;
    }
    const size_t begin = at_;
    while (at_ < text_.size() && (std::isdigit(static_cast<unsigned char>(text_[at_])) != 0 ||
                                  std::string_view("+-.eE").find(text_[at_]) != std::string_view::npos))
      ++at_;
    out = Json::parse(text_.substr(begin, at_ - begin), nullptr, false);
    return out.is_number();
  }

  bool list(Json& out, char close, int depth) {
    out = Json::array();
    if (take(close)) return true;
    do {
      if (take(close)) return true;  // behind a last comma
      if (!value(out.emplace_back(), depth + 1)) return false;
    } while (take(','));
    return take(close);
  }

  bool dict(Json& out, int depth) {
    out = Json::object();
    if (take('}')) return true;
    do {
      Json key;
      if (!value(key, depth + 1) || !key.is_string() || !take(':')) return false;
      if (!value(out[key.get<std::string>()], depth + 1)) return false;
    } while (take(','));
    return take('}');
  }

  bool string(Json& out) {
    const char quote = text_[at_++];
    std::string made = "\"";
    for (; at_ < text_.size() && text_[at_] != quote; ++at_) {
      const char c = text_[at_];
      if (c == '\\' && at_ + 1 < text_.size()) {
        const char next = text_[++at_];
        if (next == '\'')
          made += '\'';
        else
          made += {'\\', next};
      } else if (c == '"') {
        made += "\\\"";
      } else if (c == '\n') {
        made += "\\n";
      } else {
        made += c;
      }
    }
    if (at_++ >= text_.size()) return false;
    out = Json::parse(made + "\"", nullptr, false);
    return out.is_string();
  }

  std::string_view text_;
  size_t at_ = 0;
};

// Between `open` and `close`, from `at` on, which moves behind it.
std::optional<std::string_view> between(std::string_view text, std::string_view open, std::string_view close,
                                        size_t& at) {
  const size_t begin = text.find(open, at);
  if (begin == std::string_view::npos) return std::nullopt;
  const size_t end = text.find(close, begin + open.size());
  if (end == std::string_view::npos) return std::nullopt;
  at = end + close.size();
  return text.substr(begin + open.size(), end - begin - open.size());
}

Json tagged_value(std::string_view text) {
  Json value = Json::parse(text, nullptr, false);
  return value.is_discarded() || value.is_string() ? Json(text) : value;
}

}  // namespace

std::optional<std::vector<WrittenCall>> parse_python_calls(std::string_view text) {
  std::vector<WrittenCall> calls;
  return PythonReader(text).read(calls) ? std::optional(std::move(calls)) : std::nullopt;
}

std::optional<WrittenCall> parse_tagged_call(std::string_view text) {
  WrittenCall call;
  size_t at = 0;
  if (const auto name = between(text, "<function=", ">", at)) {
    call.name = trimmed(*name);
    while (const auto key = between(text, "<parameter=", ">", at)) {
      const size_t end = std::min(text.find("</parameter>", at), text.size());
      std::string_view value = text.substr(at, end - at);
      if (value.starts_with('\n')) value.remove_prefix(1);
      if (value.ends_with('\n')) value.remove_suffix(1);
      call.arguments[std::string(trimmed(*key))] = tagged_value(value);
      at = end;
    }
  } else {
    call.name = trimmed(text.substr(0, text.find("<arg_key>")));
    while (const auto key = between(text, "<arg_key>", "</arg_key>", at)) {
      const auto value = between(text, "<arg_value>", "</arg_value>", at);
      if (!value) return std::nullopt;
      call.arguments[std::string(trimmed(*key))] = tagged_value(*value);
    }
  }
  if (call.name.empty() || call.name.find_first_of(" \n<{") != std::string::npos) return std::nullopt;
  return call;
}

}  // namespace shoal::text
