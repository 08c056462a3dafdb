// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/lexer.h"

#include <algorithm>
#include <cctype>

#include "text/utf8.h"

namespace shoal::text::jinja {
namespace {

bool is_name_start(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || (c & 0x80) != 0; }
bool is_name_part(char c) { return is_name_start(c) || std::isdigit(static_cast<unsigned char>(c)); }
bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)); }

// All line ends become "\n"; one at the very end is dropped.
std::string normalize_lines(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string text) : text_(std::move(text)) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) template_text();
    emit(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void emit(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  bool looking_at(std::string_view what) const { return std::string_view(text_).substr(at_).starts_with(what); }
  void advance(size_t count) {
    line_ += static_cast<int>(std::count(text_.begin() + at_, text_.begin() + at_ + count, '\n'));
    at_ += count;
  }
  void skip_spaces() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) advance(1);
  }
  size_t find_opening() const;
  void emit_text(std::string_view text, char sign, char kind);
  void template_text();
  void comment();
  bool raw();
  void end_tag(char closing, char sign);
  void code(char closing);
  bool close(char closing);
  void string();
  void number();
  void read_operator();

  std::string text_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // what was read last ends a line
  std::string brackets_;       // open ( [ { inside a tag
  std::vector<Token> tokens_;
};

size_t Lexer::find_opening() const {
  for (size_t at = text_.find('{', at_); at != std::string::npos; at = text_.find('{', at + 1)) {
    const char next = at + 1 < text_.size() ? text_[at + 1] : '\0';
    if (next == '{' || next == '%' || next == '#') return at;
  }
  return text_.size();
}

// `sign` is the character behind the opening delimiter. `-` strips all white space before it; otherwise a block or comment that
// is first in its line loses its indentation, unless `+`.
void Lexer::emit_text(std::string_view text, char sign, char kind) {
  if (sign == '-') {
    text = strip_right(text);
  } else if (sign != '+' && kind != '{') {
    const size_t line_begin = text.rfind('\n') + 1;  // npos + 1 == 0
    const std::string_view indentation = text.substr(line_begin);
    if ((line_begin > 0 || line_starting_) && strip_left(indentation).empty()) text = text.substr(0, line_begin);
  }
  if (!text.empty()) emit(TokenKind::kText, std::string(text));
}

void Lexer::template_text() {
  const size_t opening = find_opening();
  const std::string text = text_.substr(at_, opening - at_);
  if (opening == text_.size()) {
    if (!text.empty()) emit(TokenKind::kText, text);
    advance(text.size());
    return;
  }
  const char kind = text_[opening + 1];
  const char sign = opening + 2 < text_.size() ? text_[opening + 2] : '\0';
  emit_text(text, sign, kind);
  advance(text.size() + 2);
  if (sign == '-' || (sign == '+' && kind != '{')) advance(1);
  if (kind == '#') return comment();
  if (kind == '%' && raw()) return;
  emit(kind == '{' ? TokenKind::kOutputBegin : TokenKind::kBlockBegin, "");
  code(kind == '{' ? '}' : '%');
}

void Lexer::comment() {
  const size_t end = text_.find("#}", at_);
  if (end == std::string::npos) template_error(line_, "a comment is not closed; add '#}'");
  const char sign = end > at_ ? text_[end - 1] : '\0';
  advance(end - at_);
  end_tag('#', sign);
}

// Behind "{%": if this is `raw %}`, the text up to `{% endraw %}`, as it stands.
bool Lexer::raw() {
  size_t at = at_;
  const auto skip = [&] { at = std::min(text_.find_first_not_of(" \t\n\r\f\v", at), text_.size()); };
  const auto word = [&](std::string_view what) {
    skip();
    if (!std::string_view(text_).substr(at).starts_with(what)) return false;
    at += what.size();
    return true;
  };
  if (!word("raw")) return false;
  skip();
  const char begin_sign = at < text_.size() ? text_[at] : '\0';
  if (begin_sign == '-' || begin_sign == '+') ++at;
  if (!word("%}")) return false;
  advance(at - 2 - at_);
  end_tag('%', begin_sign);
  for (size_t end = text_.find("{%", at_); end != std::string::npos; end = text_.find("{%", end + 2)) {
    at = end + 2;
    const char sign = at < text_.size() ? text_[at] : '\0';
    if (sign == '-' || sign == '+') ++at;
    if (!word("endraw")) continue;
    skip();
    const char end_sign = at < text_.size() ? text_[at] : '\0';
    if (end_sign == '-' || end_sign == '+') ++at;
    if (!word("%}")) continue;
    emit_text(std::string_view(text_).substr(at_, end - at_), sign, '%');
    advance(at - 2 - at_);
    end_tag('%', end_sign);
    return true;
  }
  template_error(line_, "'raw' is not closed; add '{% endraw %}'");
}

// At a closing delimiter: skips it and the white space that belongs to it. `sign` is the character before it.
void Lexer::end_tag(char closing, char sign) {
  advance(2);
  const size_t begin = at_;
  if (sign == '-') {
    while (at_ < text_.size()) {
      size_t next = at_;
      if (!is_python_space(next_code_point(text_, next))) break;
      advance(next - at_);
    }
  } else if (closing != '}' && sign != '+' && looking_at("\n")) {
    advance(1);
  }
  line_starting_ = at_ > begin && text_[at_ - 1] == '\n';
}

// Emits the end of the tag if it stands here.
bool Lexer::close(char closing) {
  if (!brackets_.empty()) return false;
  const std::string delimiter = std::string(1, closing) + "}";
  char sign = '\0';
  if (!looking_at(delimiter)) {
    sign = text_[at_];
    const bool trims = sign == '-' || (sign == '+' && closing == '%');
    if (!trims || std::string_view(text_).substr(at_ + 1, 2) != delimiter) return false;
    advance(1);
  }
  emit(closing == '}' ? TokenKind::kOutputEnd : TokenKind::kBlockEnd, "");
  end_tag(closing, sign);
  return true;
}

void Lexer::code(char closing) {
  const int opened = line_;
  brackets_.clear();
  while (true) {
    skip_spaces();
    if (at_ >= text_.size()) template_error(opened, std::string("a tag is not closed; add '") + closing + "}'");
    if (close(closing)) return;
    const char c = text_[at_];
    if (c == '\'' || c == '"') {
      string();
    } else if (is_digit(c)) {
      number();
    } else if (is_name_start(c)) {
      size_t end = at_;
      while (end < text_.size() && is_name_part(text_[end])) ++end;
      emit(TokenKind::kName, text_.substr(at_, end - at_));
      advance(end - at_);
    } else {
      read_operator();
    }
  }
}

void Lexer::string() {
  const char quote = text_[at_];
  const int opened = line_;
  std::string value;
  size_t at = at_ + 1;
  const auto code_point = [&](size_t digits) {
    char32_t c = 0;
    for (size_t i = 0; i < digits; ++i, ++at) {
      const char digit = at < text_.size() ? text_[at] : '\0';
      if (!std::isxdigit(static_cast<unsigned char>(digit)))
        template_error(opened, "a string has an unfinished \\x or \\u escape");
      c = c * 16 + static_cast<char32_t>(is_digit(digit) ? digit - '0' : (digit | 0x20) - 'a' + 10);
    }
    append_code_point(c, value);
  };
  while (at < text_.size() && text_[at] != quote) {
    if (text_[at] != '\\' || at + 1 >= text_.size()) {
      value += text_[at++];
      continue;
    }
    const char kind = text_[at + 1];
    at += 2;
    constexpr std::string_view kFrom = "ntr\\'\"abfv0";
    constexpr std::string_view kTo("\n\t\r\\'\"\a\b\f\v\0", 11);
    if (kind == 'x' || kind == 'u' || kind == 'U') {
      code_point(kind == 'x' ? 2 : kind == 'u' ? 4 : 8);
    } else if (const size_t known = kFrom.find(kind); known != std::string_view::npos) {
      value += kTo[known];
    } else if (kind != '\n') {  // a backslash at the end of a line joins it with the next
      value += '\\';
      value += kind;
    }
  }
  if (at >= text_.size()) template_error(opened, "a string is not closed");
  emit(TokenKind::kString, value);
  advance(at + 1 - at_);
}

void Lexer::number() {
  std::string digits;
  size_t at = at_;
  const auto take = [&] {
    for (; at < text_.size() && (is_digit(text_[at]) || text_[at] == '_'); ++at)
      if (text_[at] != '_') digits += text_[at];
  };
  take();
  bool is_float = false;
  if (at + 1 < text_.size() && text_[at] == '.' && is_digit(text_[at + 1])) {
    is_float = true;
    digits += text_[at++];
    take();
  }
  if (at < text_.size() && (text_[at] == 'e' || text_[at] == 'E')) {
    const size_t sign = at + 1 < text_.size() && (text_[at + 1] == '-' || text_[at + 1] == '+') ? 1 : 0;
    if (at + 1 + sign < text_.size() && is_digit(text_[at + 1 + sign])) {
      is_float = true;
      digits += text_.substr(at, 1 + sign);
      at += 1 + sign;
      take();
    }
  }
  emit(is_float ? TokenKind::kFloat : TokenKind::kInteger, digits);
  advance(at - at_);
}

void Lexer::read_operator() {
  constexpr std::string_view kTwo[] = {"==", "!=", ">=", "<=", "//", "**"};
  const std::string_view rest = std::string_view(text_).substr(at_);
  const auto two = std::find(std::begin(kTwo), std::end(kTwo), rest.substr(0, 2));
  const std::string text(two != std::end(kTwo) ? *two : rest.substr(0, 1));
  if (std::string_view("+-*/%~[](){}=<>.,:|").find(text[0]) == std::string_view::npos && text != "!=")
    template_error(line_, "unexpected character '" + text + "'");
  if (text == "(" || text == "[" || text == "{") brackets_ += text == "(" ? ')' : text == "[" ? ']' : '}';
  if (text == ")" || text == "]" || text == "}") {
    if (brackets_.empty() || brackets_.back() != text[0]) template_error(line_, "unexpected '" + text + "'");
    brackets_.pop_back();
  }
  emit(TokenKind::kOperator, text);
  advance(text.size());
}

}  // namespace

void template_error(int line, const std::string& text, ErrorKind kind) {
  throw Error(kind, "chat template, line " + std::to_string(line) + ": " + text);
}

std::vector<Token> tokenize(std::string_view source) { return Lexer(normalize_lines(source)).run(); }

}  // namespace shoal::text::jinja
