// SPDX-License-Identifier: Apache-2.0
// One rendering of a template: scopes, namespaces, macros, and what it may still spend. Every step, byte and level of recursion is
// counted, so that no template runs, grows or recurses without end. Not thread-safe; a run is used once.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/jinja/ast.h"

namespace shoal::text::jinja {

struct Limits {
  size_t output_bytes = size_t{64} << 20;  // of the result, and of any one string or list
  size_t work_bytes = size_t{512} << 20;   // of all strings and lists ever made
  size_t steps = 5'000'000;                // nodes evaluated; a chat of 1000 messages needs some 100'000
  int depth = 600;                         // of the recursion over the tree, macros included
};

class Run {
 public:
  Run(const Limits& limits, std::vector<std::pair<std::string, Value>> globals);

  std::string render(const Block& block);

  // For filters, tests and methods, which report what is wrong as std::invalid_argument; the run adds the line.
  Value call(const Value& callee, const Arguments& arguments);
  Value apply_filter(const std::string& name, const Value& input, const Arguments& arguments);
  bool apply_test(const std::string& name, const Value& input, const Arguments& arguments);
  // value.name: a method, a field of a namespace, or an item.
  Value attribute(const Value& value, const std::string& name);
  // value[index]: an item, else a method.
  Value subscript(const Value& value, const Value& index);
  std::string text_of(const Value& value);
  // Counts bytes or elements about to be made.
  void charge(size_t bytes);
  // Counts one more thing done.
  void step();
  const Limits& limits() const { return limits_; }
  Value make_namespace(Dict fields);

 private:
  using Scope = std::unordered_map<std::string, Value>;
  enum class Flow { kNext, kBreak, kContinue };
  class Level;  // one level of recursion

  Flow execute(const Block& block, std::string& out);
  Flow execute(const Statement& statement, std::string& out);
  Flow execute_at_line(const Statement& statement, std::string& out);
  void output(const Statement& statement, std::string& out);
  Flow loop(const Statement& statement, std::string& out);
  List loop_items(const Statement& statement);
  Value loop_variable(const List& items, size_t index) const;
  Flow scoped(const Block& block, std::string& out);
  void set(const Statement& statement);
  void set_field(const Statement& statement);
  void bind(const std::vector<std::string>& targets, const Value& value, int line);
  std::string capture(const Block& block);
  Value macro(const Statement& statement);
  Value call_macro(const Statement& statement, const Arguments& arguments);
  void call_block(const Statement& statement, std::string& out);
  void append(std::string_view text, std::string& out, int line);

  Value evaluate(const Expr& expr);
  Value evaluate_at_line(const Expr& expr);
  Value evaluate_kind(const Expr& expr);
  Value evaluate_binary(const Expr& expr);
  Value evaluate_call(const Expr& expr);
  Value evaluate_filter(const Expr& expr, const Value* input);
  Value evaluate_test(const Expr& expr);
  Value evaluate_logic(const Expr& expr);
  Value evaluate_compare(const Expr& expr);
  Value evaluate_item(const Expr& expr);
  Value evaluate_slice(const Expr& expr);
  Value evaluate_concat(const Expr& expr);
  Value evaluate_collection(const Expr& expr);
  Value filtered(const Expr* filters, Value input);
  Arguments evaluate_arguments(const std::vector<Argument>& arguments);
  Value lookup(const std::string& name) const;
  Scope& scope() { return scopes_.back(); }

  Limits limits_;
  std::vector<Scope> scopes_;  // [0] globals, [1] the template's own, then what is open
  std::vector<Dict> namespaces_;
  size_t steps_ = 0, work_ = 0;
  int depth_ = 0;
};

}  // namespace shoal::text::jinja
