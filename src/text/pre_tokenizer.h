// SPDX-License-Identifier: Apache-2.0
// The "pre_tokenizer" of tokenizer.json: steps that cut text into words, each inside the words of the step before.
// Known steps: Split (every behaviour, `invert`), ByteLevel, Digits, Metaspace, Punctuation, Whitespace, WhitespaceSplit, Sequence;
// others are refused by name. ByteLevel rewrites each byte as the printable character that GPT-2 gave it (byte_level.h).
// Immutable after construction, usable from many threads.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_read.h"
#include "text/regex.h"

namespace shoal::text {

// Words are consecutive stretches of `text`, but for those that a step has removed.
struct Words {
  struct Span {
    size_t begin, end;
  };
  std::string text;
  std::vector<Span> spans;
  bool at_beginning = false;  // the first word begins where the whole input does
};

class PreTokenizer {
 public:
  PreTokenizer() = default;  // one word
  explicit PreTokenizer(Json json) { add(json); }

  Words operator()(std::string text, bool at_beginning) const;

 private:
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Prepend { kAlways, kFirst, kNever };
  struct Step {
    // In order: replace ' ' and prepend (Metaspace) or add a space (ByteLevel), split, map bytes.
    std::string space;  // Metaspace's replacement, empty elsewhere
    Prepend prepend = Prepend::kNever;
    bool add_prefix_space = false;
    std::optional<Regex> regex;
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;
    bool map_bytes = false;
  };
  void add(Json json);
  void add_split(const std::string& pattern, Behavior behavior, bool invert = false);
  static Step metaspace(Json json);
  static Behavior behavior_of(std::string_view name);
  static void rewrite(const Step& step, Words& words);
  static void split(const Step& step, Words& words);
  static std::vector<Words::Span> group(const Step& step, const std::vector<std::pair<Words::Span, bool>>& pieces);

  std::vector<Step> steps_;
};

}  // namespace shoal::text
