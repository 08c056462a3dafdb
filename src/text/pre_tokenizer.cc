// SPDX-License-Identifier: Apache-2.0
#include "text/pre_tokenizer.h"

#include <algorithm>

#include "text/byte_level.h"
#include "text/normalizer.h"

namespace shoal::text {
namespace {

constexpr const char* kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kPunctuationPattern = R"([\p{P}!-/:-@\[-`{-~])";
// This step's \w is another library's (Rust's regex), hence spelled out: no superscripts and fractions, but joiners.
constexpr const char* kWhitespacePattern =
    R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200c}\x{200d}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189}]+)"
    R"(|[^\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200c}\x{200d}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189}\s]+)";
constexpr std::string_view kLowerOneEighthBlock = "\xE2\x96\x81";  // U+2581, SentencePiece's space

}  // namespace

PreTokenizer::Behavior PreTokenizer::behavior_of(std::string_view name) {
  if (name == "Removed" || name == "removed") return Behavior::kRemoved;
  if (name == "Isolated" || name == "isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious" || name == "merged_with_previous") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext" || name == "merged_with_next") return Behavior::kMergedWithNext;
  if (name == "Contiguous" || name == "contiguous") return Behavior::kContiguous;
  wrong_json("behavior", "'" + std::string(name) +
                             "' is not one of Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

void PreTokenizer::add_split(const std::string& pattern, Behavior behavior, bool invert) {
  Step step;
  step.regex.emplace(pattern);
  step.behavior = behavior;
  step.invert = invert;
  steps_.push_back(std::move(step));
}

PreTokenizer::Step PreTokenizer::metaspace(Json json) {
  Step step;
  step.space = get_string(json, "replacement", kLowerOneEighthBlock);
  const bool add_prefix = get_bool(json, "add_prefix_space", true);
  const std::string_view scheme = get_string(json, "prepend_scheme", add_prefix ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never")
    wrong_json("prepend_scheme", "'" + std::string(scheme) + "' is not one of always, first, never");
  step.prepend = scheme == "always" ? Prepend::kAlways : scheme == "first" ? Prepend::kFirst : Prepend::kNever;
  if (get_bool(json, "split", true)) {
    step.regex.emplace(escape_regex(step.space));
    step.behavior = Behavior::kMergedWithNext;
  }
  return step;
}

void PreTokenizer::add(Json json) {
  const std::string_view type = get_string(json, "type");
  if (type == "Sequence") {
    for (const Json step : get_array(json, "pretokenizers")) add(step);
  } else if (type == "Split") {
    add_split(pattern_of(json), behavior_of(get_string(json, "behavior")), get_bool(json, "invert", false));
  } else if (type == "ByteLevel") {
    Step step;
    step.add_prefix_space = get_bool(json, "add_prefix_space", true);
    if (get_bool(json, "use_regex", true)) step.regex.emplace(kGpt2Pattern);
    step.map_bytes = true;
    steps_.push_back(std::move(step));
  } else if (type == "Digits") {
    add_split(R"(\p{N})", get_bool(json, "individual_digits", false) ? Behavior::kIsolated : Behavior::kContiguous);
  } else if (type == "Punctuation") {
    add_split(kPunctuationPattern, behavior_of(get_string(json, "behavior", "Isolated")));
  } else if (type == "Whitespace") {
    add_split(kWhitespacePattern, Behavior::kRemoved, true);
  } else if (type == "WhitespaceSplit") {
    add_split(R"(\s)", Behavior::kRemoved);
  } else if (type == "Metaspace") {
    steps_.push_back(metaspace(json));
  } else {
    throw Error(ErrorKind::kUnsupported,
                "tokenizer.json: pre_tokenizer type '" + std::string(type) + "' is not supported");
  }
}

Words PreTokenizer::operator()(std::string text, bool at_beginning) const {
  Words words;
  words.text = std::move(text);
  words.at_beginning = at_beginning;
  if (!words.text.empty()) words.spans.push_back({0, words.text.size()});
  for (const Step& step : steps_) {
    if (!step.space.empty() || step.add_prefix_space) rewrite(step, words);
    if (step.regex) split(step, words);
    if (!step.map_bytes) continue;
    std::string mapped;
    mapped.reserve(words.text.size() + words.text.size() / 4);
    for (Words::Span& span : words.spans) {
      const size_t begin = mapped.size();
      append_byte_level(std::string_view(words.text).substr(span.begin, span.end - span.begin), mapped);
      span = {begin, mapped.size()};
    }
    words.text = std::move(mapped);
  }
  return words;
}

// Metaspace: ' ' becomes the replacement, and one is put in front of words as its scheme says. ByteLevel: a space in front.
void PreTokenizer::rewrite(const Step& step, Words& words) {
  const bool metaspace = !step.space.empty();
  const std::string_view mark = metaspace ? std::string_view(step.space) : " ";
  std::string text;
  bool first = words.at_beginning;
  for (Words::Span& span : words.spans) {
    const std::string_view word = std::string_view(words.text).substr(span.begin, span.end - span.begin);
    const size_t begin = text.size();
    const bool wanted =
        metaspace ? step.prepend == Prepend::kAlways || (step.prepend == Prepend::kFirst && first) : true;
    const bool has_mark = word.starts_with(mark) || (metaspace && word.starts_with(' '));
    if (wanted && !has_mark) text += mark;
    for (const char c : word) {
      if (metaspace && c == ' ') {
        text += mark;
      } else {
        text += c;
      }
    }
    span = {begin, text.size()};
    first = false;
  }
  words.text = std::move(text);
}

void PreTokenizer::split(const Step& step, Words& words) {
  std::vector<Words::Span> result;
  std::vector<std::pair<Words::Span, bool>> pieces;  // the whole word in matches and what lies between them
  for (const Words::Span word : words.spans) {
    pieces.clear();
    size_t from = word.begin;
    step.regex->for_each_match(std::string_view(words.text).substr(word.begin, word.end - word.begin),
                               [&](Match match) {
                                 const Words::Span span{word.begin + match.begin, word.begin + match.end};
                                 if (from != span.begin) pieces.push_back({{from, span.begin}, step.invert});
                                 pieces.push_back({span, !step.invert});
                                 from = span.end;
                               });
    if (from != word.end) pieces.push_back({{from, word.end}, step.invert});
    for (const Words::Span span : group(step, pieces))
      if (span.begin != span.end) result.push_back(span);
  }
  words.spans = std::move(result);
}

std::vector<Words::Span> PreTokenizer::group(const Step& step,
                                             const std::vector<std::pair<Words::Span, bool>>& pieces) {
  std::vector<Words::Span> spans;
  if (step.behavior == Behavior::kMergedWithNext) {  // the mirror image of MergedWithPrevious
    bool previous = false;
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
      const auto& [span, matched] = *piece;
      if (matched && !previous && !spans.empty()) {
        spans.back().begin = span.begin;
      } else {
        spans.push_back(span);
      }
      previous = matched;
    }
    std::reverse(spans.begin(), spans.end());
    return spans;
  }
  bool previous = false;
  for (const auto& [span, matched] : pieces) {
    const bool first = spans.empty();
    const bool joins = (step.behavior == Behavior::kMergedWithPrevious && matched && !previous) ||
                       (step.behavior == Behavior::kContiguous && matched == previous);
    if (step.behavior == Behavior::kRemoved && matched) continue;
    if (joins && !first) {
      spans.back().end = span.end;
    } else {
      spans.push_back(span);
    }
    previous = matched;
  }
  return spans;
}

}  // namespace shoal::text
