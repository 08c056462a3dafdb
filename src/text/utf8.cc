// SPDX-License-Identifier: Apache-2.0
#include "text/utf8.h"

#include <algorithm>
#include <cstring>

namespace shoal::text {
namespace {

// What the bytes at a position are: a whole character, ill-formed, or the beginning of a character at the very end.
struct Sequence {
  enum Kind { kWhole, kBroken, kUnfinished } kind;
  size_t length;
};

// Bounds of the second byte, the only one that depends on the lead (no overlongs, surrogates or values past U+10FFFF).
bool second_byte_fits(unsigned char lead, unsigned char second) {
  if (lead == 0xE0) return second >= 0xA0 && second <= 0xBF;
  if (lead == 0xED) return second >= 0x80 && second <= 0x9F;
  if (lead == 0xF0) return second >= 0x90 && second <= 0xBF;
  if (lead == 0xF4) return second >= 0x80 && second <= 0x8F;
  return second >= 0x80 && second <= 0xBF;
}

Sequence classify(std::string_view bytes, size_t at) {
  const auto lead = static_cast<unsigned char>(bytes[at]);
  if (lead < 0x80) return {Sequence::kWhole, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Sequence::kBroken, 1};
  const size_t length = utf8_length(lead);
  for (size_t i = 1; i < length; ++i) {
    if (at + i == bytes.size()) return {Sequence::kUnfinished, i};
    const auto byte = static_cast<unsigned char>(bytes[at + i]);
    const bool fits = i == 1 ? second_byte_fits(lead, byte) : (byte & 0xC0) == 0x80;
    if (!fits) return {Sequence::kBroken, i};
  }
  return {Sequence::kWhole, length};
}

// Appends the repaired text; returns how many bytes at the end are an unfinished character (not appended).
size_t repair_into(std::string_view bytes, std::string& out) {
  size_t begin = 0;  // of the valid stretch not yet copied
  size_t at = 0;
  while (at < bytes.size()) {
    const Sequence sequence = classify(bytes, at);
    if (sequence.kind == Sequence::kWhole) {
      at += sequence.length;
      continue;
    }
    out.append(bytes, begin, at - begin);
    if (sequence.kind == Sequence::kUnfinished) return sequence.length;
    out += kReplacement;
    at += sequence.length;
    begin = at;
  }
  out.append(bytes, begin, at - begin);
  return 0;
}

}  // namespace

char32_t next_code_point(std::string_view text, size_t& position) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[position + i]); };
  const unsigned char lead = byte(0);
  const size_t length = std::min(utf8_length(lead), text.size() - position);
  char32_t code_point = lead;
  if (length > 1) code_point = lead & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) code_point = (code_point << 6) | (byte(i) & 0x3F);
  position += length;
  return code_point;
}

void append_code_point(char32_t c, std::string& out) {
  if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
    out += kReplacement;
  } else if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

std::u32string to_code_points(std::string_view text) {
  std::u32string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) result += next_code_point(text, at);
  return result;
}

std::string to_utf8(std::u32string_view code_points) {
  std::string result;
  result.reserve(code_points.size());
  for (const char32_t c : code_points) append_code_point(c, result);
  return result;
}

size_t count_code_points(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool is_valid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Sequence sequence = classify(text, at);
    if (sequence.kind != Sequence::kWhole) return false;
    at += sequence.length;
  }
  return true;
}

std::string repair_utf8(std::string_view bytes) {
  std::string result;
  result.reserve(bytes.size());
  if (repair_into(bytes, result) > 0) result += kReplacement;
  return result;
}

void Utf8Stream::push(std::string_view bytes, std::string& out) {
  if (pending_.empty()) {
    const size_t unfinished = repair_into(bytes, out);
    pending_ = bytes.substr(bytes.size() - unfinished);
    return;
  }
  const std::string joined = pending_ + std::string(bytes);
  const size_t unfinished = repair_into(joined, out);
  pending_ = joined.substr(joined.size() - unfinished);
}

void Utf8Stream::finish(std::string& out) {
  if (!pending_.empty()) out += kReplacement;
  pending_.clear();
}

bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_python_space(char32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

std::string_view strip_left(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    size_t next = at;
    if (!is_python_space(next_code_point(text, next))) break;
    at = next;
  }
  return text.substr(at);
}

std::string_view strip_right(std::string_view text) {
  while (!text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && (text[begin] & 0xC0) == 0x80) --begin;
    size_t at = begin;
    if (!is_python_space(next_code_point(text, at))) break;
    text = text.substr(0, begin);
  }
  return text;
}

}  // namespace shoal::text
