// SPDX-License-Identifier: Apache-2.0
// GPT-2's byte alphabet: each of the 256 bytes has a printable character, itself where it is printable Latin-1, else one from
// U+0100 on. Not here: anything about tokens.
#pragma once

#include <string>
#include <string_view>

namespace shoal::text {

// Each byte as its character, in UTF-8.
void append_byte_level(std::string_view bytes, std::string& out);
// The bytes behind a token's characters; if one of them is outside the alphabet, the token's own UTF-8.
void append_bytes_of_token(std::string_view token, std::string& out);

}  // namespace shoal::text
