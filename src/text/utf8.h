// SPDX-License-Identifier: Apache-2.0
// UTF-8 for the tokenizer and the templates: decode, encode, repair, count, strip.
// Invariant: everything behind `repair_utf8` or `Utf8Stream` is valid UTF-8. Not here: case mapping and normal forms (ICU).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::text {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Length of the sequence that a lead byte of valid UTF-8 announces.
inline size_t utf8_length(unsigned char lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

// Code point at `position` of valid UTF-8; moves `position` behind it.
char32_t next_code_point(std::string_view text, size_t& position);
void append_code_point(char32_t code_point, std::string& out);
std::u32string to_code_points(std::string_view text);
std::string to_utf8(std::u32string_view code_points);
size_t count_code_points(std::string_view text);

bool is_valid_utf8(std::string_view text);
// Ill-formed parts become U+FFFD, one for each maximal subpart (Unicode 15, table 3-8), as Rust and Python replace them.
std::string repair_utf8(std::string_view bytes);

// The same repair over a stream: an unfinished character is kept back until its rest, or the end, comes.
class Utf8Stream {
 public:
  void push(std::string_view bytes, std::string& out);
  void finish(std::string& out);

 private:
  std::string pending_;
};

// White space as Unicode's White_Space property has it.
bool is_white_space(char32_t c);
// White space as Python's str.strip() sees it: the above and the separators U+001C..U+001F.
bool is_python_space(char32_t c);
std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);

}  // namespace shoal::text
