// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/parser.h"

#include "text/jinja/expression_parser.h"

namespace shoal::text::jinja {
namespace {

constexpr int kMaxBranches = 200;

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Block run() {
    Block block = body({});
    if (peek().kind != TokenKind::kEnd) unexpected("the end of the template");
    return block;
  }

 private:
  using Node = std::unique_ptr<Statement>;
  Node make(StatementKind kind) const {
    auto node = std::make_unique<Statement>();
    node->kind = kind;
    node->line = peek().line;
    return node;
  }
  Block body(std::initializer_list<const char*> ends);
  bool statement_ends(std::initializer_list<const char*> ends) const;
  void end_tag();
  Node output();
  Node statement();
  Node parse_if();
  Node parse_for();
  Node set();
  Node macro();
  Node call_block();
  Node filter_block();
  Node scope(const char* end);
  Node jump(StatementKind kind);
  std::vector<Parameter> parameters();
  Block finish_block(const char* end);

  int loops_ = 0;  // that surround the current statement
};

// Inside `{% … %}`: is its first word one of these?
bool Parser::statement_ends(std::initializer_list<const char*> ends) const {
  for (const char* end : ends)
    if (at_name(end)) return true;
  return false;
}

void Parser::end_tag() {
  if (peek().kind != TokenKind::kBlockEnd) unexpected("'%}'");
  take();
}

// Statements up to one of `ends`, which is left as the next token, behind its "{%".
Block Parser::body(std::initializer_list<const char*> ends) {
  const Nesting nesting(*this);
  const int opened = peek().line;
  Block block;
  while (peek().kind != TokenKind::kEnd) {
    if (peek().kind == TokenKind::kText) {
      block.push_back(make(StatementKind::kText));
      block.back()->text = take().text;
    } else if (peek().kind == TokenKind::kOutputBegin) {
      block.push_back(output());
    } else {
      take();
      if (statement_ends(ends)) return block;
      if (Node node = statement()) block.push_back(std::move(node));
    }
  }
  if (ends.size() > 0)
    template_error(opened, std::string("a block is not closed; add '{% ") + *(ends.end() - 1) + " %}'");
  return block;
}

Parser::Node Parser::output() {
  Node node = make(StatementKind::kOutput);
  take();
  node->expr = tuple();
  if (peek().kind != TokenKind::kOutputEnd) unexpected("'}}'");
  take();
  return node;
}

Parser::Node Parser::statement() {
  if (accept_name("if")) return parse_if();
  if (accept_name("for")) return parse_for();
  if (accept_name("set")) return set();
  if (accept_name("macro")) return macro();
  if (accept_name("call")) return call_block();
  if (accept_name("filter")) return filter_block();
  if (accept_name("generation")) return scope("endgeneration");
  if (accept_name("break")) return jump(StatementKind::kBreak);
  if (accept_name("continue")) return jump(StatementKind::kContinue);
  if (peek().kind != TokenKind::kName) unexpected("a statement");
  const std::string& name = peek().text;
  if (name.starts_with("end") || name == "else" || name == "elif")
    template_error(peek().line, "'" + name + "' without its beginning");
  template_error(peek().line, "the statement '" + name + "' is not supported", ErrorKind::kUnsupported);
}

// An `elif` is an `if` alone in the `else` of the one before.
Parser::Node Parser::parse_if() {
  Node first = make(StatementKind::kIf);
  Statement* node = first.get();
  for (int branches = 0;; ++branches) {
    if (branches > kMaxBranches) template_error(peek().line, "an 'if' of too many branches", ErrorKind::kLimit);
    node->expr = tuple();
    end_tag();
    node->body = body({"elif", "else", "endif"});
    if (!at_name("elif")) break;
    node->otherwise.push_back(make(StatementKind::kIf));
    node = node->otherwise.back().get();
    take();
  }
  if (accept_name("else")) {
    end_tag();
    node->otherwise = body({"endif"});
  }
  take();
  end_tag();
  return first;
}

Parser::Node Parser::parse_for() {
  Node node = make(StatementKind::kFor);
  const bool bracket = accept_operator("(");
  do node->targets.push_back(expect_name("a loop variable"));
  while (accept_operator(","));
  if (bracket) expect_operator(")");
  if (!accept_name("in")) unexpected("'in'");
  node->expr = tuple(false);
  if (accept_name("if")) node->condition = expression();
  if (at_name("recursive")) template_error(peek().line, "recursive loops are not supported", ErrorKind::kUnsupported);
  end_tag();
  ++loops_;
  const size_t names = loop_names();
  node->body = body({"else", "endfor"});
  node->uses_loop = loop_names() != names;
  --loops_;
  if (accept_name("else")) {
    end_tag();
    node->otherwise = body({"endfor"});
  }
  take();
  end_tag();
  return node;
}

Block Parser::finish_block(const char* end) {
  end_tag();
  const int loops = std::exchange(loops_, 0);  // break and continue do not leave a macro or a captured block
  Block block = body({end});
  loops_ = loops;
  take();
  end_tag();
  return block;
}

Parser::Node Parser::set() {
  Node node = make(StatementKind::kSet);
  node->targets.push_back(expect_name("a variable"));
  if (accept_operator(".")) {
    node->kind = StatementKind::kSetField;
    node->targets.push_back(expect_name("a field's name"));
  }
  while (node->kind == StatementKind::kSet && accept_operator(",")) node->targets.push_back(expect_name("a variable"));
  if (accept_operator("=")) {
    node->expr = tuple();
    end_tag();
    return node;
  }
  if (node->kind == StatementKind::kSetField) unexpected("'='");
  node->condition = filters(nullptr);
  node->body = finish_block("endset");
  return node;
}

std::vector<Parameter> Parser::parameters() {
  std::vector<Parameter> result;
  expect_operator("(");
  while (!accept_operator(")")) {
    if (!result.empty()) expect_operator(",");
    if (accept_operator(")")) break;
    Parameter parameter;
    parameter.name = expect_name("a parameter's name");
    if (accept_operator("=")) parameter.fallback = expression();
    result.push_back(std::move(parameter));
  }
  return result;
}

Parser::Node Parser::macro() {
  Node node = make(StatementKind::kMacro);
  node->targets.push_back(expect_name("the macro's name"));
  node->parameters = parameters();
  node->body = finish_block("endmacro");
  return node;
}

Parser::Node Parser::call_block() {
  Node node = make(StatementKind::kCallBlock);
  if (at_operator("(")) node->parameters = parameters();
  node->expr = expression();
  if (node->expr->kind != ExprKind::kCall) template_error(node->line, "'call' needs a call, such as macro()");
  node->body = finish_block("endcall");
  return node;
}

Parser::Node Parser::filter_block() {
  Node node = make(StatementKind::kFilterBlock);
  auto filter = std::make_unique<Expr>();
  filter->kind = ExprKind::kFilter;
  filter->line = node->line;
  filter->name = expect_name("a filter's name");
  filter->operands.push_back(nullptr);
  if (at_operator("(")) filter->arguments = arguments();
  node->condition = filters(std::move(filter));
  node->body = finish_block("endfilter");
  return node;
}

// `generation` only marks text for training; it is a scope like a loop's body.
Parser::Node Parser::scope(const char* end) {
  Node node = make(StatementKind::kScope);
  end_tag();
  node->body = body({end});
  take();
  end_tag();
  return node;
}

Parser::Node Parser::jump(StatementKind kind) {
  Node node = make(kind);
  if (loops_ == 0) template_error(node->line, "'break' or 'continue' outside a loop");
  end_tag();
  return node;
}

}  // namespace

Block parse_template(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace shoal::text::jinja
