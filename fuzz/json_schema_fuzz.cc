// SPDX-License-Identifier: Apache-2.0
// Any bytes as a JSON Schema: refused with an Error, or a grammar whose texts, picked at random, never come to a dead end.
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/grammar/grammar.h"

namespace {

// Every byte as a token, and some longer ones.
const shoal::Tokenizer& tokenizer() {
  static const auto* made = [] {
    std::string vocab;
    for (int byte = 0; byte < 256; ++byte) {
      char name[16];
      std::snprintf(name, sizeof(name), "\"<0x%02X>\": %d,", byte, byte);
      vocab += name;
    }
    const std::string json =
        R"({"model": {"type": "BPE", "byte_fallback": true, "merges": [], "vocab": {)" + vocab +
        R"("\"": 256, "{\"": 257, "\":": 258, "\"}": 259, "},": 260, "ab": 261, "[[": 262, "12": 263}}, "decoder": {"type": "ByteFallback"}})";
    return new shoal::Tokenizer(shoal::Tokenizer::parse(json));
  }();
  return *made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* compiler = new shoal::GrammarCompiler(tokenizer());
  std::shared_ptr<const shoal::Grammar> grammar;
  try {
    grammar = compiler->json_schema({reinterpret_cast<const char*>(data), size});
  } catch (const shoal::Error&) {
    return 0;
  }
  shoal::TokenConstraint constraint(grammar);
  std::vector<uint64_t> words((tokenizer().vocab_size() + 63) / 64);
  uint32_t random = 1;
  for (int step = 0; step < 60 && !constraint.must_end(); ++step) {
    constraint.fill_mask(words);
    std::vector<int32_t> allowed;
    for (int32_t id = 0; id < tokenizer().vocab_size(); ++id)
      if ((words[id / 64] >> (id % 64) & 1) != 0) allowed.push_back(id);
    if (allowed.empty()) {
      if (!constraint.may_end()) __builtin_trap();
      break;
    }
    random = random * 1664525 + 1013904223;
    if (!constraint.accept(allowed[(random >> 8) % allowed.size()])) __builtin_trap();
  }
  return 0;
}
