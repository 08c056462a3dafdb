// SPDX-License-Identifier: Apache-2.0
// What filters and methods do to strings, with Python's meaning.
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <stdexcept>

#include "text/jinja/builtins.h"
#include "text/utf8.h"

namespace shoal::text::jinja {
namespace {

std::string from_icu(const icu::UnicodeString& text) {
  std::string result;
  text.toUTF8String(result);
  return result;
}

// Words begin where `begins` says; their first character goes up, the rest down.
template <typename Begins>
std::string title_words(const std::string& text, Begins begins) {
  std::string result;
  bool at_word = true;
  for (const char32_t c : to_code_points(text)) {
    const auto u = static_cast<UChar32>(c);
    append_code_point(static_cast<char32_t>(at_word ? u_totitle(u) : u_tolower(u)), result);
    at_word = begins(c);
  }
  return result;
}

}  // namespace

int64_t integer_argument(const Arguments& arguments, size_t index, const char* name, int64_t fallback) {
  const Value* value = arguments.find(index, name);
  if (value == nullptr || value->is_none()) return fallback;
  if (!value->is_integral()) throw std::invalid_argument(std::string("argument '") + name + "' must be an integer");
  return value->integer();
}

bool bool_argument(const Arguments& arguments, size_t index, const char* name, bool fallback) {
  const Value* value = arguments.find(index, name);
  return value == nullptr ? fallback : value->truthy();
}

std::string string_argument(const Arguments& arguments, size_t index, const char* name, const char* fallback) {
  const Value* value = arguments.find(index, name);
  if (value == nullptr && fallback != nullptr) return fallback;
  if (value == nullptr || !value->is_string())
    throw std::invalid_argument(std::string("argument '") + name + "' must be a string");
  return value->string();
}

const std::string& text_of_string(const Value& value, const char* who) {
  if (value.is_undefined()) throw std::invalid_argument("'" + value.undefined_name() + "' is undefined");
  if (!value.is_string()) throw std::invalid_argument(std::string(who) + " takes a string, not " + value.type_name());
  return value.string();
}

std::string upper(const std::string& text) {
  return from_icu(icu::UnicodeString::fromUTF8(text).toUpper(icu::Locale::getRoot()));
}

std::string lower(const std::string& text) {
  return from_icu(icu::UnicodeString::fromUTF8(text).toLower(icu::Locale::getRoot()));
}

std::string capitalize(const std::string& text) {
  return title_words(text, [](char32_t) { return false; });
}

std::string title(const std::string& text) {
  return title_words(text, [](char32_t c) { return !u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_CASED); });
}

std::string jinja_title(const std::string& text) {
  return title_words(
      text, [](char32_t c) { return is_python_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<'; });
}

std::string strip(const std::string& text, const Value* characters, bool left, bool right) {
  if (characters == nullptr || characters->is_none()) {
    const std::string_view rest = left ? strip_left(text) : text;
    return std::string(right ? strip_right(rest) : rest);
  }
  const std::u32string set = to_code_points(text_of_string(*characters, "strip"));
  const std::u32string all = to_code_points(text);
  size_t begin = 0, end = all.size();
  while (left && begin < end && set.find(all[begin]) != std::u32string::npos) ++begin;
  while (right && end > begin && set.find(all[end - 1]) != std::u32string::npos) --end;
  return to_utf8(std::u32string_view(all).substr(begin, end - begin));
}

// At most `count` replacements, all if negative. An empty `from` matches before every character and at the end.
std::string replace(Run& run, const std::string& text, const std::string& from, const std::string& to, int64_t count) {
  std::string result;
  size_t done = 0;
  for (size_t at = 0; count != 0 && at <= text.size(); --count) {
    at = text.find(from, at);
    if (at == std::string::npos) break;
    run.charge(to.size());
    result.append(text, done, at - done);
    result += to;
    done = at + from.size();
    at =
        from.empty() && at < text.size() ? at + utf8_length(static_cast<unsigned char>(text[at])) : done + from.empty();
    if (result.size() > run.limits().output_bytes) throw std::length_error("the result of replace is too large");
  }
  result.append(text, std::min(done, text.size()));
  run.charge(result.size());
  return result;
}

std::string join(Run& run, const List& items, const std::string& separator) {
  std::string result;
  for (const Value& item : items) {
    if (&item != items.data()) result += separator;
    result += run.text_of(item);
    run.charge(separator.size());
    if (result.size() > run.limits().output_bytes) throw std::length_error("the result of join is too large");
  }
  return result;
}

}  // namespace shoal::text::jinja
