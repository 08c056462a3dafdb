// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/pattern_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>

#include "base/error.h"
#include "text/utf8.h"

namespace shoal::text {
namespace {

using Kind = PatternTree::Kind;
constexpr char32_t kLast = 0x10FFFF;
constexpr int kMaxDepth = 100;
constexpr int32_t kMaxRepeats = 10'000;

const std::vector<CodeRange> kDigits = {{'0', '9'}};
const std::vector<CodeRange> kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const std::vector<CodeRange> kSpace = {{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680},
                                       {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                                       {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const std::vector<CodeRange> kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class Parser {
 public:
  explicit Parser(std::string_view pattern) : text_(to_code_points(pattern)) {}

  PatternTree parse() {
    PatternTree tree = choice(0);
    if (at_ < text_.size()) fail(ErrorKind::kInvalid, "has a ) without a (");
    return tree;
  }

 private:
  [[noreturn]] void fail(ErrorKind kind, const std::string& what) const {
    throw Error(kind, fmt::format("{} at character {}", what, std::min(at_, text_.size()) + 1));
  }
  bool more() const { return at_ < text_.size(); }
  bool take(char32_t c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  PatternTree choice(int depth) {
    if (depth > kMaxDepth) fail(ErrorKind::kLimit, fmt::format("is nested more than {} deep", kMaxDepth));
    PatternTree tree{.kind = Kind::kChoice};
    do tree.parts.push_back(sequence(depth));
    while (take('|'));
    return tree.parts.size() == 1 ? std::move(tree.parts.front()) : tree;
  }

  PatternTree sequence(int depth) {
    PatternTree tree{.kind = Kind::kSequence};
    while (more() && text_[at_] != '|' && text_[at_] != ')') tree.parts.push_back(repeated(atom(depth)));
    return tree;
  }

  PatternTree atom(int depth) {
    const char32_t c = text_[at_++];
    switch (c) {
      case '^':
        return {.kind = Kind::kBegin};
      case '$':
        return {.kind = Kind::kEnd};
      case '.':
        return of_class(kLineEnds, true);
      case '(':
        return group(depth);
      case '[':
        return bracket();
      case '\\':
        return escape();
      case '*':
      case '+':
      case '?':
        --at_;
        fail(ErrorKind::kInvalid, "has nothing to repeat");
      default:
        return of_class({{c, c}}, false);
    }
  }

  PatternTree group(int depth) {
    if (take('?')) {
      if (take('=') || take('!')) fail(ErrorKind::kUnsupported, "has a look-ahead, which is not supported,");
      if (take('<')) {
        if (take('=') || take('!')) fail(ErrorKind::kUnsupported, "has a look-behind, which is not supported,");
        while (more() && !take('>')) ++at_;  // a name, of no use here
      } else if (!take(':')) {
        fail(ErrorKind::kInvalid, "has an unknown kind of group");
      }
    }
    PatternTree tree = choice(depth + 1);
    if (!take(')')) fail(ErrorKind::kInvalid, "has a ( without a )");
    return tree;
  }

  PatternTree repeated(PatternTree part) {
    while (const std::optional<std::pair<int32_t, int32_t>> bounds = quantifier()) {
      PatternTree tree{.kind = Kind::kRepeat, .least = bounds->first, .most = bounds->second};
      tree.parts.push_back(std::move(part));
      part = std::move(tree);
      take('?');  // which match is preferred changes nothing in what is matched
    }
    return part;
  }

  std::optional<std::pair<int32_t, int32_t>> quantifier() {
    if (take('*')) return std::pair(0, PatternTree::kForever);
    if (take('+')) return std::pair(1, PatternTree::kForever);
    if (take('?')) return std::pair(0, 1);
    const size_t begin = at_;
    if (!take('{')) return std::nullopt;
    const std::optional<int32_t> least = number();
    std::optional<int32_t> most = least;
    if (take(',')) most = more() && text_[at_] == '}' ? std::optional(PatternTree::kForever) : number();
    if (!least || !most || !take('}')) {
      at_ = begin;
      fail(ErrorKind::kInvalid, "has a { that is no repetition (write \\{ for the character)");
    }
    if (*most != PatternTree::kForever && *most < *least) fail(ErrorKind::kInvalid, "repeats from more to less");
    return std::pair(*least, *most);
  }

  std::optional<int32_t> number() {
    int32_t value = 0;
    const size_t begin = at_;
    for (; more() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = value * 10 + static_cast<int32_t>(text_[at_] - '0');
      if (value > kMaxRepeats) fail(ErrorKind::kLimit, fmt::format("repeats more than {} times", kMaxRepeats));
    }
    return at_ > begin ? std::optional(value) : std::nullopt;
  }

  static PatternTree of_class(std::vector<CodeRange> ranges, bool negated) {
    return {.kind = Kind::kClass, .ranges = normalised(std::move(ranges), negated)};
  }

  // A class such as \d, or nothing, and the place is as before.
  std::optional<std::vector<CodeRange>> class_escape() {
    if (!more()) return std::nullopt;
    const char32_t c = text_[at_];
    const auto give = [&](const std::vector<CodeRange>& ranges, bool negated) {
      ++at_;
      return normalised(ranges, negated);
    };
    if (c == 'd' || c == 'D') return give(kDigits, c == 'D');
    if (c == 'w' || c == 'W') return give(kWord, c == 'W');
    if (c == 's' || c == 'S') return give(kSpace, c == 'S');
    return std::nullopt;
  }

  PatternTree escape() {
    if (const auto ranges = class_escape()) return of_class(*ranges, false);
    if (more() && (text_[at_] == 'b' || text_[at_] == 'B'))
      fail(ErrorKind::kUnsupported, "has a word boundary \\b, which is not supported,");
    const char32_t c = character_escape();
    return of_class({{c, c}}, false);
  }

  // Behind a backslash.
  char32_t character_escape() {
    if (!more()) fail(ErrorKind::kInvalid, "ends in a backslash");
    const char32_t c = text_[at_++];
    switch (c) {
      case 't':
        return '\t';
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      case '0':
        return 0;
      case 'x':
        return hex(2);
      case 'u':
        return unicode_escape();
      default:
        break;
    }
    if (c >= '1' && c <= '9') fail(ErrorKind::kUnsupported, "has a back reference, which is not supported,");
    if (c == 'p' || c == 'P') fail(ErrorKind::kUnsupported, "has \\p, which is not supported (list the characters),");
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) fail(ErrorKind::kInvalid, "has an unknown escape");
    return c;
  }

  char32_t unicode_escape() {
    if (take('{')) {
      char32_t value = 0;
      while (more() && !take('}')) value = std::min<char32_t>(value * 16 + hex(1), kLast + 1);
      if (value > kLast) fail(ErrorKind::kInvalid, "has a code point above 10FFFF");
      return value;
    }
    const char32_t high = hex(4);
    if (high < 0xD800 || high > 0xDBFF || at_ + 1 >= text_.size() || text_[at_] != '\\' || text_[at_ + 1] != 'u')
      return high;
    at_ += 2;
    const char32_t low = hex(4);
    if (low < 0xDC00 || low > 0xDFFF) fail(ErrorKind::kInvalid, "has half a surrogate pair");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  char32_t hex(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char32_t c = more() ? text_[at_++] : 0;
      const bool digit = c >= '0' && c <= '9', letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'f';
      if (!digit && !letter) fail(ErrorKind::kInvalid, "has an escape without its hexadecimal digits");
      value = value * 16 + (digit ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
  }

  PatternTree bracket() {
    const bool negated = take('^');
    std::vector<CodeRange> ranges;
    while (more() && text_[at_] != ']') {
      std::vector<CodeRange> low = class_member();
      const bool range = at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']';
      if (range && low.size() == 1 && low[0].low == low[0].high) {
        ++at_;
        const std::vector<CodeRange> high = class_member();
        if (high.size() != 1 || high[0].low != high[0].high || high[0].high < low[0].low)
          fail(ErrorKind::kInvalid, "has a range that ends before it begins");
        low[0].high = high[0].high;
      }
      ranges.insert(ranges.end(), low.begin(), low.end());
    }
    if (!take(']')) fail(ErrorKind::kInvalid, "has a [ without a ]");
    return of_class(std::move(ranges), negated);
  }

  std::vector<CodeRange> class_member() {
    if (!take('\\')) {
      const char32_t c = text_[at_++];
      return {{c, c}};
    }
    if (auto ranges = class_escape()) return *ranges;
    if (take('b')) return {{'\b', '\b'}};
    const char32_t c = character_escape();
    return {{c, c}};
  }

  std::u32string text_;
  size_t at_ = 0;
};

}  // namespace

std::vector<CodeRange> normalised(std::vector<CodeRange> ranges, bool negated) {
  if (!negated) {
    // The complement of the complement: sorted, joined, and without what is no character.
    return normalised(normalised(std::move(ranges), true), true);
  }
  ranges.push_back({0xD800, 0xDFFF});
  std::sort(ranges.begin(), ranges.end(), [](const CodeRange& a, const CodeRange& b) { return a.low < b.low; });
  std::vector<CodeRange> rest;
  char32_t next = 0;
  for (const CodeRange& range : ranges) {
    if (range.low > next) rest.push_back({next, range.low - 1});
    next = std::max<char32_t>(next, range.high + 1);
  }
  if (next <= kLast) rest.push_back({next, kLast});
  return rest;
}

PatternTree parse_pattern(std::string_view pattern) { return Parser(pattern).parse(); }

}  // namespace shoal::text
