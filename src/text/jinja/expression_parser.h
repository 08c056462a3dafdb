// SPDX-License-Identifier: Apache-2.0
// Expressions of the template grammar, by recursive descent. Base of the statement parser in parser.cc.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace shoal::text::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  // With `conditional`, `a if b else c` too (not after `for x in`).
  ExprPtr expression(bool conditional = true);
  // One expression, or several with commas: a list.
  ExprPtr tuple(bool conditional = true);
  std::vector<Argument> arguments();
  // `| name(…) | name(…)` behind `operand`, which may be null.
  ExprPtr filters(ExprPtr operand);

 protected:
  const Token& peek() const { return tokens_[at_]; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool at_operator(std::string_view text) const { return peek().kind == TokenKind::kOperator && peek().text == text; }
  bool at_name(std::string_view text) const { return peek().kind == TokenKind::kName && peek().text == text; }
  bool accept_operator(std::string_view text);
  bool accept_name(std::string_view text);
  void expect_operator(std::string_view text);
  std::string expect_name(const char* what);
  [[noreturn]] void unexpected(const std::string& wanted) const;

  // How often the name `loop` has been read.
  size_t loop_names() const { return loop_names_; }

  // Counts nesting of both expressions and statements.
  class Nesting {
   public:
    explicit Nesting(ExpressionParser& parser);
    ~Nesting() { --parser_.depth_; }

   private:
    ExpressionParser& parser_;
  };

 private:
  using Rule = ExprPtr (ExpressionParser::*)();
  ExprPtr make(ExprKind kind, std::string name = {}) const;
  ExprPtr binary(Rule operand, std::initializer_list<std::string_view> operators);
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr compare();
  bool comparison(std::string& name);
  ExprPtr sum();
  ExprPtr concat();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary_with_filters();
  ExprPtr unary(bool with_filters);
  ExprPtr primary();
  ExprPtr name_or_constant();
  ExprPtr number();
  ExprPtr list(std::string_view closing);
  ExprPtr dict();
  ExprPtr postfix(ExprPtr operand);
  ExprPtr subscript(ExprPtr operand);
  ExprPtr test(ExprPtr operand);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  size_t loop_names_ = 0;
};

}  // namespace shoal::text::jinja
