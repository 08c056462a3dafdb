// SPDX-License-Identifier: Apache-2.0
#include "text/byte_level.h"

#include <array>
#include <cstdint>

#include "text/utf8.h"

namespace shoal::text {
namespace {

constexpr int kNoByte = -1;
constexpr size_t kAlphabetEnd = 0x144;  // 256 + the 68 bytes that are not printable

constexpr bool is_printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char16_t, 256> character{};
  std::array<int16_t, kAlphabetEnd> byte{};
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte.fill(kNoByte);
  char16_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const char16_t character = is_printable(byte) ? static_cast<char16_t>(byte) : next++;
    alphabet.character[byte] = character;
    alphabet.byte[character] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

void append_byte_level(std::string_view bytes, std::string& out) {
  for (const char byte : bytes) append_code_point(kAlphabet.character[static_cast<unsigned char>(byte)], out);
}

void append_bytes_of_token(std::string_view token, std::string& out) {
  const size_t before = out.size();
  for (size_t at = 0; at < token.size();) {
    const char32_t c = next_code_point(token, at);
    if (c >= kAlphabetEnd || kAlphabet.byte[c] == kNoByte) {
      out.resize(before);
      out += token;
      return;
    }
    out += static_cast<char>(kAlphabet.byte[c]);
  }
}

}  // namespace shoal::text
