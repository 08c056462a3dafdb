// SPDX-License-Identifier: Apache-2.0
#include "text/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include "text/regex.h"
#include "text/utf8.h"

namespace shoal::text {
namespace {

const icu::Normalizer2* icu_normalizer(const char* data, UNormalization2Mode mode) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = icu::Normalizer2::getInstance(nullptr, data, mode, status);
  CHECK(U_SUCCESS(status));
  return normalizer;
}

std::string normal_form(const icu::Normalizer2& form, std::string text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::StringPiece piece(text.data(), static_cast<int32_t>(text.size()));
  if (form.isNormalizedUTF8(piece, status)) return text;
  std::string result;
  icu::StringByteSink<std::string> sink(&result);
  form.normalizeUTF8(0, piece, sink, nullptr, status);
  CHECK(U_SUCCESS(status));
  return result;
}

std::string lowercase(const std::string& text) {
  std::string result;
  icu::UnicodeString::fromUTF8(text).toLower(icu::Locale::getRoot()).toUTF8String(result);
  return result;
}

std::string strip_accents(const std::string& text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (u_charType(static_cast<UChar32>(c)) != U_NON_SPACING_MARK) append_code_point(c, result);
  }
  return result;
}

std::string replace_literal(const std::string& text, const std::string& pattern, const std::string& content) {
  if (pattern.empty()) return text;
  std::string result;
  size_t from = 0;
  for (size_t at = text.find(pattern); at != std::string::npos; at = text.find(pattern, from)) {
    result.append(text, from, at - from);
    result += content;
    from = at + pattern.size();
  }
  result.append(text, from);
  return result;
}

std::string replace_regex(const std::string& text, const Regex& regex, const std::string& content) {
  std::string result;
  size_t from = 0;
  regex.for_each_match(text, [&](Match match) {
    result.append(text, from, match.begin - from);
    result += content;
    from = match.end;
  });
  result.append(text, from);
  return result;
}

}  // namespace

std::string pattern_of(Json json) {
  Json pattern, value;
  if (!find_member(json, "pattern", pattern)) wrong_json("pattern", "is missing");
  if (pattern.is_string()) return escape_regex(string_of(pattern, "pattern"));
  if (find_member(pattern, "String", value)) return escape_regex(string_of(value, "pattern.String"));
  if (find_member(pattern, "Regex", value)) return std::string(string_of(value, "pattern.Regex"));
  wrong_json("pattern", "must have \"String\" or \"Regex\"");
}

std::function<std::string(std::string)> make_replace(Json json) {
  const std::string content(get_string(json, "content"));
  Json pattern, value;
  if (find_member(json, "pattern", pattern) && find_member(pattern, "String", value)) {
    const std::string literal(string_of(value, "pattern.String"));
    return [=](const std::string& text) { return replace_literal(text, literal, content); };
  }
  const Regex regex(pattern_of(json));
  return [=](const std::string& text) { return replace_regex(text, regex, content); };
}

void Normalizer::add(Json json) {
  const std::string_view type = get_string(json, "type");
  const auto add_form = [&](const char* data, UNormalization2Mode mode) {
    const icu::Normalizer2* form = icu_normalizer(data, mode);
    steps_.emplace_back([form](std::string text) { return normal_form(*form, std::move(text)); });
  };
  if (type == "Sequence") {
    for (const Json step : get_array(json, "normalizers")) add(step);
  } else if (type == "NFC" || type == "NFD") {
    add_form("nfc", type == "NFC" ? UNORM2_COMPOSE : UNORM2_DECOMPOSE);
  } else if (type == "NFKC" || type == "NFKD") {
    add_form("nfkc", type == "NFKC" ? UNORM2_COMPOSE : UNORM2_DECOMPOSE);
  } else if (type == "Lowercase") {
    steps_.emplace_back(lowercase);
  } else if (type == "StripAccents") {
    steps_.emplace_back(strip_accents);
  } else if (type == "Replace") {
    steps_.push_back(make_replace(json));
  } else if (type == "Prepend") {
    const std::string prefix(get_string(json, "prepend"));
    steps_.emplace_back([prefix](const std::string& text) { return text.empty() ? text : prefix + text; });
  } else if (type == "Strip") {
    const bool left = get_bool(json, "strip_left", true), right = get_bool(json, "strip_right", true);
    steps_.emplace_back([=](const std::string& text) {
      const std::string_view rest = left ? strip_left(text) : text;
      return std::string(right ? strip_right(rest) : rest);
    });
  } else {
    throw Error(ErrorKind::kUnsupported,
                "tokenizer.json: normalizer type '" + std::string(type) + "' is not supported");
  }
}

std::string Normalizer::operator()(std::string_view text) const {
  std::string result(text);
  for (const Step& step : steps_) result = step(std::move(result));
  return result;
}

}  // namespace shoal::text
