// SPDX-License-Identifier: Apache-2.0
// The input up to the first NUL as a tokenizer.json, the rest as a text to encode, decode and stream with it.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  try {
    const shoal::Tokenizer tokenizer = shoal::Tokenizer::parse(input.substr(0, end));
    const std::string_view text =
        end < size ? input.substr(end + 1) : std::string_view("Hello  w\xC3\xB6rld 123 \xE4\xBD\xA0");
    const std::vector<int32_t> ids = tokenizer.encode(text, true);
    shoal::Detokenizer stream(tokenizer, false);
    std::string pieces;
    for (const int32_t id : ids) pieces += stream.push(id);
    if (pieces + stream.finish() != tokenizer.decode(ids, false)) std::abort();
  } catch (const shoal::Error&) {
  }
  return 0;
}
