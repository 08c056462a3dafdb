// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/expression_parser.h"

#include <algorithm>
#include <cstdlib>

namespace shoal::text::jinja {
namespace {

constexpr int kMaxNesting = 60;    // brackets and blocks
constexpr size_t kMaxChain = 200;  // a.b.c, a|b|c, a + b + c: trees as deep as they are long

}  // namespace

ExpressionParser::Nesting::Nesting(ExpressionParser& parser) : parser_(parser) {
  if (++parser_.depth_ > kMaxNesting)
    template_error(parser_.peek().line, "nested deeper than " + std::to_string(kMaxNesting) + " levels",
                   ErrorKind::kLimit);
}

bool ExpressionParser::accept_operator(std::string_view text) {
  if (!at_operator(text)) return false;
  take();
  return true;
}

bool ExpressionParser::accept_name(std::string_view text) {
  if (!at_name(text)) return false;
  take();
  return true;
}

void ExpressionParser::expect_operator(std::string_view text) {
  if (!accept_operator(text)) unexpected("'" + std::string(text) + "'");
}

std::string ExpressionParser::expect_name(const char* what) {
  if (peek().kind != TokenKind::kName) unexpected(what);
  return take().text;
}

void ExpressionParser::unexpected(const std::string& wanted) const {
  const Token& token = peek();
  const bool tag_end = token.kind == TokenKind::kOutputEnd || token.kind == TokenKind::kBlockEnd;
  const std::string seen = token.kind == TokenKind::kEnd ? "the template ends"
                           : tag_end                     ? "the tag ends"
                                                         : "there is '" + token.text + "'";
  template_error(token.line, "expected " + wanted + ", but " + seen);
}

ExprPtr ExpressionParser::make(ExprKind kind, std::string name) const {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = peek().line;
  expr->name = std::move(name);
  return expr;
}

ExprPtr ExpressionParser::expression(bool conditional) {
  const Nesting nesting(*this);
  ExprPtr value = parse_or();
  while (conditional && at_name("if")) {
    ExprPtr choice = make(ExprKind::kIf);
    take();
    choice->operands.push_back(parse_or());
    choice->operands.push_back(std::move(value));
    choice->operands.push_back(accept_name("else") ? expression() : nullptr);
    value = std::move(choice);
  }
  return value;
}

ExprPtr ExpressionParser::tuple(bool conditional) {
  ExprPtr first = expression(conditional);
  if (!at_operator(",")) return first;
  ExprPtr list = make(ExprKind::kList);
  list->operands.push_back(std::move(first));
  while (accept_operator(",")) {
    const TokenKind kind = peek().kind;
    if (kind == TokenKind::kBlockEnd || kind == TokenKind::kOutputEnd || at_operator(")") || at_operator("=")) break;
    list->operands.push_back(expression(conditional));
  }
  return list;
}

// Left-associative: operand (operator operand)*.
ExprPtr ExpressionParser::binary(Rule operand, std::initializer_list<std::string_view> operators) {
  ExprPtr left = (this->*operand)();
  for (size_t length = 0;; ++length) {
    const auto matches = [&](std::string_view text) { return at_operator(text); };
    if (std::none_of(operators.begin(), operators.end(), matches)) return left;
    if (length > kMaxChain) template_error(peek().line, "an expression of too many operators", ErrorKind::kLimit);
    ExprPtr node = make(ExprKind::kBinary, peek().text);
    take();
    node->operands.push_back(std::move(left));
    node->operands.push_back((this->*operand)());
    left = std::move(node);
  }
}

ExprPtr ExpressionParser::parse_or() {
  ExprPtr first = parse_and();
  if (!at_name("or")) return first;
  ExprPtr node = make(ExprKind::kOr);
  node->operands.push_back(std::move(first));
  while (accept_name("or")) node->operands.push_back(parse_and());
  return node;
}

ExprPtr ExpressionParser::parse_and() {
  ExprPtr first = parse_not();
  if (!at_name("and")) return first;
  ExprPtr node = make(ExprKind::kAnd);
  node->operands.push_back(std::move(first));
  while (accept_name("and")) node->operands.push_back(parse_not());
  return node;
}

ExprPtr ExpressionParser::parse_not() {
  if (!at_name("not")) return compare();
  const Nesting nesting(*this);
  ExprPtr node = make(ExprKind::kNot);
  take();
  node->operands.push_back(parse_not());
  return node;
}

// Reads a comparison operator: "==", …, "in", "not in".
bool ExpressionParser::comparison(std::string& name) {
  for (const char* text : {"==", "!=", "<=", ">=", "<", ">"}) {
    if (!accept_operator(text)) continue;
    name = text;
    return true;
  }
  name = "in";
  if (accept_name("in")) return true;
  if (!at_name("not") || tokens_[std::min(at_ + 1, tokens_.size() - 1)].text != "in") return false;
  take();
  take();
  name = "not in";
  return true;
}

ExprPtr ExpressionParser::compare() {
  ExprPtr first = sum();
  std::string name;
  if (!comparison(name)) return first;
  ExprPtr node = make(ExprKind::kCompare);
  node->operands.push_back(std::move(first));
  do {
    node->operators.push_back(name);
    node->operands.push_back(sum());
  } while (comparison(name));
  return node;
}

ExprPtr ExpressionParser::sum() { return binary(&ExpressionParser::concat, {"+", "-"}); }

ExprPtr ExpressionParser::concat() {
  ExprPtr first = product();
  if (!at_operator("~")) return first;
  ExprPtr node = make(ExprKind::kConcat);
  node->operands.push_back(std::move(first));
  while (accept_operator("~")) node->operands.push_back(product());
  return node;
}

ExprPtr ExpressionParser::product() { return binary(&ExpressionParser::power, {"*", "/", "//", "%"}); }

ExprPtr ExpressionParser::power() { return binary(&ExpressionParser::unary_with_filters, {"**"}); }

ExprPtr ExpressionParser::unary_with_filters() { return unary(true); }

ExprPtr ExpressionParser::unary(bool with_filters) {
  ExprPtr node;
  if (at_operator("-") || at_operator("+")) {
    const Nesting nesting(*this);
    node = make(at_operator("-") ? ExprKind::kNegate : ExprKind::kPlus);
    take();
    node->operands.push_back(unary(false));
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filters ? filters(std::move(node)) : std::move(node);
}

ExprPtr ExpressionParser::primary() {
  switch (peek().kind) {
    case TokenKind::kName:
      return name_or_constant();
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return number();
    case TokenKind::kString: {
      ExprPtr node = make(ExprKind::kConstant);
      std::string text;
      while (peek().kind == TokenKind::kString) text += take().text;  // neighbours are one string
      node->value = std::move(text);
      return node;
    }
    default:
      break;
  }
  if (accept_operator("(")) {
    if (accept_operator(")")) return make(ExprKind::kList);
    ExprPtr inner = tuple();
    expect_operator(")");
    return inner;
  }
  if (accept_operator("[")) return list("]");
  if (accept_operator("{")) return dict();
  unexpected("an expression");
}

ExprPtr ExpressionParser::name_or_constant() {
  const std::string& text = peek().text;
  ExprPtr node = make(ExprKind::kConstant);
  if (text == "true" || text == "True") {
    node->value = true;
  } else if (text == "false" || text == "False") {
    node->value = false;
  } else if (text != "none" && text != "None") {
    node->kind = ExprKind::kName;
    node->name = text;
    loop_names_ += text == "loop";
  }
  take();
  return node;
}

ExprPtr ExpressionParser::number() {
  ExprPtr node = make(ExprKind::kConstant);
  const Token token = take();
  if (token.kind == TokenKind::kFloat) {
    node->value = std::strtod(token.text.c_str(), nullptr);
    return node;
  }
  if (token.text.size() > 18) template_error(token.line, "integer " + token.text.substr(0, 40) + " is too large");
  node->value = static_cast<int64_t>(std::stoll(token.text));
  return node;
}

ExprPtr ExpressionParser::list(std::string_view closing) {
  ExprPtr node = make(ExprKind::kList);
  while (!accept_operator(closing)) {
    if (!node->operands.empty()) expect_operator(",");
    if (accept_operator(closing)) break;
    node->operands.push_back(expression());
  }
  return node;
}

ExprPtr ExpressionParser::dict() {
  ExprPtr node = make(ExprKind::kDict);
  while (!accept_operator("}")) {
    if (!node->operands.empty()) expect_operator(",");
    if (accept_operator("}")) break;
    node->operands.push_back(expression());
    expect_operator(":");
    node->operands.push_back(expression());
  }
  return node;
}

ExprPtr ExpressionParser::postfix(ExprPtr operand) {
  for (size_t length = 0; length <= kMaxChain; ++length) {
    ExprPtr node;
    if (at_operator(".")) {
      take();
      const bool index = peek().kind == TokenKind::kInteger;
      node = make(index ? ExprKind::kItem : ExprKind::kAttribute);
      node->operands.push_back(std::move(operand));
      if (index) {
        node->operands.push_back(number());
      } else {
        node->name = expect_name("an attribute's name");
      }
    } else if (at_operator("[")) {
      node = subscript(std::move(operand));
    } else if (at_operator("(")) {
      node = make(ExprKind::kCall);
      node->operands.push_back(std::move(operand));
      node->arguments = arguments();
    } else {
      return operand;
    }
    operand = std::move(node);
  }
  template_error(peek().line, "a chain of too many attributes", ErrorKind::kLimit);
}

ExprPtr ExpressionParser::subscript(ExprPtr operand) {
  expect_operator("[");
  ExprPtr node = make(ExprKind::kItem);
  node->operands.push_back(std::move(operand));
  const auto part = [&] {
    const bool absent = at_operator(":") || at_operator("]");
    node->operands.push_back(absent ? nullptr : expression());
  };
  part();
  while (accept_operator(":")) {
    node->kind = ExprKind::kSlice;
    part();
  }
  if (node->operands.size() > 4 || (node->kind == ExprKind::kItem && !node->operands[1]))
    unexpected("an index or a slice");
  if (node->kind == ExprKind::kSlice) node->operands.resize(4);
  expect_operator("]");
  return node;
}

std::vector<Argument> ExpressionParser::arguments() {
  expect_operator("(");
  std::vector<Argument> result;
  while (!accept_operator(")")) {
    if (!result.empty()) expect_operator(",");
    if (accept_operator(")")) break;
    Argument argument;
    const bool named = peek().kind == TokenKind::kName && tokens_[at_ + 1].kind == TokenKind::kOperator &&
                       tokens_[at_ + 1].text == "=";
    if (named) {
      argument.name = take().text;
      take();
    } else if (!result.empty() && !result.back().name.empty()) {
      unexpected("a named argument");
    }
    argument.value = expression();
    result.push_back(std::move(argument));
  }
  return result;
}

ExprPtr ExpressionParser::filters(ExprPtr operand) {
  for (size_t length = 0; length <= kMaxChain; ++length) {
    if (accept_operator("|")) {
      ExprPtr node = make(ExprKind::kFilter);
      node->name = expect_name("a filter's name");
      node->operands.push_back(std::move(operand));
      if (at_operator("(")) node->arguments = arguments();
      operand = std::move(node);
    } else if (operand && at_name("is")) {
      operand = test(std::move(operand));
    } else {
      return operand;
    }
  }
  template_error(peek().line, "a chain of too many filters", ErrorKind::kLimit);
}

ExprPtr ExpressionParser::test(ExprPtr operand) {
  take();
  const bool negated = accept_name("not");
  ExprPtr node = make(ExprKind::kTest);
  node->name = expect_name("a test's name");
  node->operands.push_back(std::move(operand));
  const auto is_word = [&] {
    for (const char* word : {"else", "or", "and", "if", "in", "not", "is"})
      if (at_name(word)) return true;
    return false;
  };
  const TokenKind kind = peek().kind;
  const bool literal = kind == TokenKind::kString || kind == TokenKind::kInteger || kind == TokenKind::kFloat;
  if (at_operator("(")) {
    node->arguments = arguments();
  } else if (literal || at_operator("[") || at_operator("{") || (kind == TokenKind::kName && !is_word())) {
    node->arguments.push_back({"", postfix(primary())});
  }
  if (!negated) return node;
  ExprPtr inverse = make(ExprKind::kNot);
  inverse->operands.push_back(std::move(node));
  return inverse;
}

}  // namespace shoal::text::jinja
