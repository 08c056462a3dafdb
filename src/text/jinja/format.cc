// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/format.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "text/jinja/operators.h"
#include "text/utf8.h"

namespace shoal::text::jinja {
namespace {

[[noreturn]] void refuse(const char* reason) { throw std::invalid_argument(reason); }

std::string escape(const char* pattern, char32_t c) {
  char text[16];
  std::snprintf(text, sizeof(text), pattern, static_cast<unsigned>(c));
  return text;
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  const uint32_t hidden = U_GC_C_MASK | U_GC_Z_MASK;
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & hidden) == 0;
}

class Writer {
 public:
  explicit Writer(size_t max_size) : max_size_(max_size) {}
  std::string take() { return std::move(out_); }

 protected:
  void put(std::string_view text) {
    if (out_.size() + text.size() > max_size_) refuse("the text of a value is too large");
    out_ += text;
  }
  // Scalars that print without quotes; false for the others.
  bool put_scalar(const Value& value, const char* const (&words)[3]) {
    if (value.is_none()) {
      put(words[0]);
    } else if (value.is_bool()) {
      put(words[value.truthy() ? 1 : 2]);
    } else if (value.is_int()) {
      put(std::to_string(value.integer()));
    } else {
      return false;
    }
    return true;
  }

 private:
  std::string out_;
  size_t max_size_;
};

// Python's repr().
class ReprWriter : public Writer {
 public:
  using Writer::Writer;
  void value(const Value& value, int depth) {
    if (depth > kMaxValueDepth) refuse("a value is nested too deep to print");
    if (put_scalar(value, {"None", "True", "False"})) return;
    if (value.is_float()) return put(float_text(value.number()));
    if (value.is_string()) return string(value.string());
    if (value.is_list()) return list(value.list(), depth);
    if (value.is_dict()) return dict(value.dict(), depth);
    put(value.is_undefined() ? "Undefined" : std::string("<") + value.type_name() + ">");
  }

 private:
  void string(const std::string& text) {
    const bool double_quotes = text.find('\'') != std::string::npos && text.find('"') == std::string::npos;
    const char32_t quote = double_quotes ? '"' : '\'';
    put(double_quotes ? "\"" : "'");
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      const char32_t c = next_code_point(text, at);
      if (c == quote || c == '\\') {
        put(std::string("\\") + static_cast<char>(c));
      } else if (c == '\n' || c == '\r' || c == '\t') {
        put(c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
      } else if (is_printable(c)) {
        put(std::string_view(text).substr(begin, at - begin));
      } else {
        put(escape(c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c));
      }
    }
    put(double_quotes ? "\"" : "'");
  }
  void list(const List& list, int depth) {
    put("[");
    for (const Value& item : list) {
      if (&item != list.data()) put(", ");
      value(item, depth + 1);
    }
    put("]");
  }
  void dict(const Dict& dict, int depth) {
    put("{");
    bool first = true;
    for (const auto& [key, item] : dict.items()) {
      if (!first) put(", ");
      first = false;
      value(key, depth + 1);
      put(": ");
      value(item, depth + 1);
    }
    put("}");
  }
};

class JsonWriter : public Writer {
 public:
  JsonWriter(size_t max_size, const JsonStyle& style) : Writer(max_size), style_(style) {}
  void value(const Value& value, int depth) {
    if (depth > kMaxValueDepth) refuse("a value is nested too deep for JSON");
    if (put_scalar(value, {"null", "true", "false"})) return;
    if (value.is_float()) return number(value.number());
    if (value.is_string()) return string(value.string());
    if (value.is_list()) return list(value.list(), depth);
    if (value.is_dict()) return dict(value.dict(), depth);
    throw std::invalid_argument(std::string("tojson does not take ") + value.type_name());
  }

 private:
  void number(double number) {
    if (std::isnan(number)) return put("NaN");
    if (std::isinf(number)) return put(number > 0 ? "Infinity" : "-Infinity");
    put(float_text(number));
  }
  void character(std::string_view text, char32_t c) {
    constexpr std::string_view kFrom = "\"\\\n\r\t\b\f";
    constexpr std::string_view kTo = "\"\\nrtbf";
    const size_t known = c < 0x80 ? kFrom.find(static_cast<char>(c)) : std::string_view::npos;
    if (known != std::string_view::npos) return put(std::string("\\") + kTo[known]);
    if (c >= 0x20 && (c < 0x80 || !style_.ensure_ascii)) return put(text);
    if (c < 0x10000) return put(escape("\\u%04x", c));
    put(escape("\\u%04x", 0xD800 + ((c - 0x10000) >> 10)));
    put(escape("\\u%04x", 0xDC00 + ((c - 0x10000) & 0x3FF)));
  }
  void string(const std::string& text) {
    put("\"");
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      const char32_t c = next_code_point(text, at);
      character(std::string_view(text).substr(begin, at - begin), c);
    }
    put("\"");
  }
  void new_line(int depth) {
    if (style_.indent < 0) return;
    put("\n");
    for (int i = 0; i < depth; ++i) put(std::string(static_cast<size_t>(style_.indent), ' '));
  }
  void separate(bool first, int depth) {
    if (!first) put(style_.item_separator);
    new_line(depth);
  }
  void list(const List& list, int depth) {
    if (list.empty()) return put("[]");
    put("[");
    for (const Value& item : list) {
      separate(&item == list.data(), depth + 1);
      value(item, depth + 1);
    }
    new_line(depth);
    put("]");
  }
  void key(const Value& key) {
    if (key.is_string()) return string(key.string());
    put("\"");
    value(key, kMaxValueDepth);
    put("\"");
  }
  void dict(const Dict& dict, int depth) {
    if (dict.size() == 0) return put("{}");
    std::vector<std::pair<Value, Value>> items = dict.items();
    if (style_.sort_keys)
      std::stable_sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return less(a.first, b.first); });
    put("{");
    for (const auto& entry : items) {
      separate(&entry == items.data(), depth + 1);
      key(entry.first);
      put(style_.key_separator);
      value(entry.second, depth + 1);
    }
    new_line(depth);
    put("}");
  }

  const JsonStyle& style_;
};

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[40];
  const double size = std::abs(value);
  const bool scientific = size != 0 && (size < 1e-4 || size >= 1e16);
  const auto format = scientific ? std::chars_format::scientific : std::chars_format::fixed;
  std::string text(buffer, std::to_chars(buffer, buffer + sizeof(buffer), value, format).ptr);
  if (!scientific && text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string to_text(const Value& value, size_t max_size) {
  if (value.is_string()) return value.string();
  if (value.is_undefined()) return {};
  ReprWriter writer(max_size);
  writer.value(value, 0);
  return writer.take();
}

std::string to_json(const Value& value, const JsonStyle& style, size_t max_size) {
  JsonWriter writer(max_size, style);
  writer.value(value, 0);
  return writer.take();
}

}  // namespace shoal::text::jinja
