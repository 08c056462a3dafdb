// SPDX-License-Identifier: Apache-2.0
#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"
#include "text/utf8.h"

namespace shoal::text {
namespace {

// Members of Oniguruma's \s and \w, as they stand inside a bracket class. PCRE2's own \s has U+180E too, its \w no marks.
constexpr std::string_view kSpaceClass =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kWordClass =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149})"
    R"(\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
constexpr uint32_t kMatchLimit = 5'000'000;
constexpr int kMaxClassNesting = 8;

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    std::string out;
    while (at_ < in_.size()) {
      if (in_[at_] == '\\') {
        out += escape(false);
      } else if (in_[at_] == '[') {
        out += bracket_class(0);
      } else {
        out += in_[at_++];
      }
    }
    return out;
  }

 private:
  std::string escape(bool in_class) {
    const std::string_view pair = in_.substr(at_, 2);
    at_ += pair.size();
    const char kind = pair.size() < 2 ? '\0' : pair[1];
    const std::string_view members = kind == 's' || kind == 'S' ? kSpaceClass : kWordClass;
    if (kind == 's' || kind == 'w') return in_class ? std::string(members) : "[" + std::string(members) + "]";
    if ((kind == 'S' || kind == 'W') && !in_class) return "[^" + std::string(members) + "]";
    return std::string(pair);
  }

  // Reads from `[` to its `]`. `[A&&[^B]]` becomes `(?:(?![B])[A])`; several intersections nest the same way.
  std::string bracket_class(int depth) {
    if (depth > kMaxClassNesting) throw Error(ErrorKind::kInvalid, "regex: character classes nested too deep");
    std::string members = "[";
    std::string conditions;
    ++at_;
    if (at_ < in_.size() && in_[at_] == '^') members += in_[at_++];
    const size_t first = at_;
    while (at_ < in_.size() && (in_[at_] != ']' || at_ == first)) {
      if (in_.substr(at_, 2) == "&&") {
        at_ += 2;
        conditions += "(?=" + operand(depth) + ")";
      } else {
        members += member(depth);
      }
    }
    if (at_ == in_.size()) throw Error(ErrorKind::kInvalid, "regex: '[' without its ']' in " + std::string(in_));
    ++at_;
    members += ']';
    return conditions.empty() ? members : "(?:" + conditions + members + ")";
  }

  // Right side of `&&`: a bracket class, or loose members up to the next `&&` or `]`.
  std::string operand(int depth) {
    if (at_ < in_.size() && in_[at_] == '[' && in_.substr(at_, 2) != "[:") return bracket_class(depth + 1);
    std::string members = "[";
    while (at_ < in_.size() && in_[at_] != ']' && in_.substr(at_, 2) != "&&") members += member(depth);
    return members + "]";
  }

  std::string member(int depth) {
    if (in_[at_] == '\\') return escape(true);
    if (in_.substr(at_, 2) == "[:") {
      const size_t end = in_.find(":]", at_ + 2);
      if (end != std::string_view::npos) {
        const std::string name(in_.substr(at_, end + 2 - at_));
        at_ = end + 2;
        return name;
      }
    }
    if (in_[at_] != '[') return std::string(1, in_[at_++]);
    const std::string inner = bracket_class(depth + 1);  // a nested class is a union with its members
    if (inner.starts_with("[^") || inner.starts_with("(?:"))
      throw Error(ErrorKind::kUnsupported, "regex: a negated class inside a class, in " + std::string(in_));
    return inner.substr(1, inner.size() - 2);
  }

  std::string_view in_;
  size_t at_ = 0;
};

}  // namespace

std::string onig_to_pcre(std::string_view pattern) { return Translator(pattern).run(); }

std::string escape_regex(std::string_view literal) {
  std::string out;
  for (const char c : literal) {
    if (std::string_view(R"(\^$.|?*+()[]{}-#&~ )").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

Regex::Regex(const std::string& onig_pattern) {
  const std::string pattern = onig_to_pcre(onig_pattern);
  int code = 0;
  PCRE2_SIZE offset = 0;
  const uint32_t options =
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;  // Ruby's ^ and $ match at lines
  pcre2_code* compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, &code, &offset, nullptr);
  if (compiled == nullptr) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(code, message, sizeof(message));
    throw Error(ErrorKind::kInvalid,
                "regex '" + onig_pattern.substr(0, 200) + "' is not valid: " + reinterpret_cast<const char*>(message));
  }
  code_ = {compiled, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); }};
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);  // without JIT the interpreter answers the same
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(context, kMatchLimit);
  context_ = {context, [](void* p) { pcre2_match_context_free(static_cast<pcre2_match_context*>(p)); }};
}

bool Regex::find(std::string_view text, size_t from, void* match_data, Match& match) const {
  auto* data = static_cast<pcre2_match_data*>(match_data);
  const auto run = [&](uint32_t options) {
    return pcre2_match(static_cast<const pcre2_code*>(code_.get()), reinterpret_cast<PCRE2_SPTR>(text.data()),
                       text.size(), from, options, data, static_cast<pcre2_match_context*>(context_.get()));
  };
  int status = run(PCRE2_NO_UTF_CHECK);
  if (status == PCRE2_ERROR_JIT_STACKLIMIT) status = run(PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
  if (status == PCRE2_ERROR_NOMATCH) return false;
  if (status < 0)
    throw Error(ErrorKind::kLimit,
                "a regex of the tokenizer needs more than its limit of steps on this text (PCRE2 error " +
                    std::to_string(status) + "); shorten the text or simplify the pattern");
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data);
  match = {bounds[0], bounds[1]};
  return match.begin <= match.end;  // \K in a lookahead can turn them round
}

void Regex::for_each_match(std::string_view text, const std::function<void(Match)>& visit) const {
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(pcre2_match_data_create(1, nullptr),
                                                                            pcre2_match_data_free);
  size_t from = 0;
  size_t last_end = std::string_view::npos;
  Match match{};
  while (from <= text.size() && find(text, from, data.get(), match)) {
    const bool empty = match.begin == match.end;
    if (match.begin < from) match.begin = from;
    if (!empty || match.begin != last_end) visit(match);
    last_end = from = match.end;
    if (empty) from += from < text.size() ? utf8_length(static_cast<unsigned char>(text[from])) : 1;
  }
}

}  // namespace shoal::text
