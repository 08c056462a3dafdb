// SPDX-License-Identifier: Apache-2.0
// Statements, scopes and limits; expressions are in evaluate.cc.
#include "text/jinja/run.h"

#include <algorithm>
#include <stdexcept>

#include "text/jinja/builtins.h"
#include "text/jinja/format.h"
#include "text/jinja/lexer.h"
#include "text/jinja/operators.h"

namespace shoal::text::jinja {

Run::Run(const Limits& limits, std::vector<std::pair<std::string, Value>> globals) : limits_(limits), scopes_(2) {
  for (auto& [name, value] : global_functions()) scopes_[0][name] = std::move(value);
  for (std::pair<std::string, Value>& global : globals) scopes_[0][global.first] = std::move(global.second);
}

std::string Run::render(const Block& block) {
  std::string out;
  execute(block, out);
  return out;
}

void Run::charge(size_t bytes) {
  if (bytes > limits_.output_bytes)
    throw std::length_error("a value is larger than " + std::to_string(limits_.output_bytes) + " bytes");
  work_ += bytes;
  if (work_ > limits_.work_bytes)
    throw std::length_error("the template makes more than " + std::to_string(limits_.work_bytes) + " bytes of values");
}

void Run::step() {
  if (++steps_ > limits_.steps)
    throw std::length_error("the template takes more than " + std::to_string(limits_.steps) + " steps");
}

Value Run::make_namespace(Dict fields) {
  charge(sizeof(Dict));
  namespaces_.push_back(std::move(fields));
  return NamespaceRef{namespaces_.size() - 1};
}

std::string Run::text_of(const Value& value) {
  std::string text = to_text(value, limits_.output_bytes);
  charge(text.size());
  return text;
}

void Run::append(std::string_view text, std::string& out, int line) {
  if (out.size() + text.size() > limits_.output_bytes)
    template_error(line, "the output is larger than " + std::to_string(limits_.output_bytes) + " bytes",
                   ErrorKind::kLimit);
  out += text;
}

Run::Flow Run::execute(const Block& block, std::string& out) {
  for (const auto& statement : block) {
    const Flow flow = execute_at_line(*statement, out);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

class Run::Level {
 public:
  Level(Run& run, int line) : run_(run) {
    run.step();
    if (run.depth_ >= run.limits_.depth) template_error(line, "the template recurses too deep", ErrorKind::kLimit);
    ++run.depth_;
  }
  ~Level() { --run_.depth_; }

 private:
  Run& run_;
};

// What an operator, filter or function refuses becomes an error with the line of the innermost expression or statement.
Run::Flow Run::execute_at_line(const Statement& statement, std::string& out) {
  try {
    return execute(statement, out);
  } catch (const std::length_error& error) {
    template_error(statement.line, error.what(), ErrorKind::kLimit);
  } catch (const std::logic_error& error) {
    template_error(statement.line, error.what());
  }
}

Run::Flow Run::execute(const Statement& statement, std::string& out) {
  const Level level(*this, statement.line);
  switch (statement.kind) {
    case StatementKind::kText:
      append(statement.text, out, statement.line);
      break;
    case StatementKind::kOutput:
      output(statement, out);
      break;
    case StatementKind::kIf:
      return execute(evaluate(*statement.expr).truthy() ? statement.body : statement.otherwise, out);
    case StatementKind::kFor:
      return loop(statement, out);
    case StatementKind::kSet:
      set(statement);
      break;
    case StatementKind::kSetField:
      set_field(statement);
      break;
    case StatementKind::kMacro:
      scope()[statement.targets[0]] = macro(statement);
      break;
    case StatementKind::kCallBlock:
      call_block(statement, out);
      break;
    case StatementKind::kFilterBlock: {
      const Value text = filtered(statement.condition.get(), capture(statement.body));
      append(text_of(text), out, statement.line);
      break;
    }
    case StatementKind::kScope:
      return scoped(statement.body, out);
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

void Run::output(const Statement& statement, std::string& out) {
  const Value value = evaluate(*statement.expr);
  if (value.is_string()) return append(value.string(), out, statement.line);
  append(text_of(value), out, statement.line);
}

Run::Flow Run::scoped(const Block& block, std::string& out) {
  scopes_.emplace_back();
  const Flow flow = execute(block, out);
  scopes_.pop_back();
  return flow;
}

std::string Run::capture(const Block& block) {
  std::string text;
  scoped(block, text);
  charge(text.size());
  return text;
}

List Run::loop_items(const Statement& statement) {
  const Value iterable = evaluate(*statement.expr);
  List all = elements(iterable);
  charge(all.size() * sizeof(Value));
  if (!statement.condition) return all;
  List kept;
  for (Value& item : all) {
    scopes_.emplace_back();
    bind(statement.targets, item, statement.line);
    const bool keep = evaluate(*statement.condition).truthy();
    scopes_.pop_back();
    if (keep) kept.push_back(std::move(item));
  }
  return kept;
}

Value Run::loop_variable(const List& items, size_t index) const {
  const size_t count = items.size();
  Dict loop;
  loop.set("index", index + 1);
  loop.set("index0", index);
  loop.set("revindex", count - index);
  loop.set("revindex0", count - index - 1);
  loop.set("first", index == 0);
  loop.set("last", index + 1 == count);
  loop.set("length", count);
  loop.set("depth", 1);
  loop.set("depth0", 0);
  loop.set("previtem", index > 0 ? items[index - 1] : Value::undefined("there is no previous item"));
  loop.set("nextitem", index + 1 < count ? items[index + 1] : Value::undefined("there is no next item"));
  loop.set("cycle", Value::callable([index](Run&, const Arguments& arguments) {
             if (arguments.positional.empty()) throw std::invalid_argument("loop.cycle needs values");
             return arguments.positional[index % arguments.positional.size()];
           }));
  return loop;
}

Run::Flow Run::loop(const Statement& statement, std::string& out) {
  const List items = loop_items(statement);
  if (items.empty()) return scoped(statement.otherwise, out);
  for (size_t i = 0; i < items.size(); ++i) {
    step();
    scopes_.emplace_back();
    bind(statement.targets, items[i], statement.line);
    if (statement.uses_loop) scope()["loop"] = loop_variable(items, i);
    const Flow flow = execute(statement.body, out);
    scopes_.pop_back();
    if (flow == Flow::kBreak) break;
  }
  return Flow::kNext;
}

void Run::bind(const std::vector<std::string>& targets, const Value& value, int line) {
  if (targets.size() == 1) {
    scope()[targets[0]] = value;
    return;
  }
  List parts;
  if (value.is_list() || value.is_string()) parts = elements(value);
  if (parts.size() != targets.size())
    template_error(line, "cannot unpack " + std::string(value.type_name()) + " of " + std::to_string(parts.size()) +
                             " items into " + std::to_string(targets.size()) + " variables");
  for (size_t i = 0; i < targets.size(); ++i) scope()[targets[i]] = parts[i];
}

void Run::set(const Statement& statement) {
  const Value value =
      statement.expr ? evaluate(*statement.expr) : filtered(statement.condition.get(), capture(statement.body));
  bind(statement.targets, value, statement.line);
}

void Run::set_field(const Statement& statement) {
  const Value value = evaluate(*statement.expr);
  const Value target = lookup(statement.targets[0]);
  if (!target.is_namespace())
    template_error(statement.line, "'" + statement.targets[0] + "' is not a namespace(), so its fields cannot be set");
  namespaces_[target.namespace_index()].set(statement.targets[1], value);
}

Value Run::macro(const Statement& statement) {
  return Value::callable(
      [&statement](Run& run, const Arguments& arguments) { return run.call_macro(statement, arguments); });
}

// A macro sees its arguments and the template's own variables, not those of its caller.
Value Run::call_macro(const Statement& statement, const Arguments& arguments) {
  std::vector<Scope> outer(std::make_move_iterator(scopes_.begin() + 2), std::make_move_iterator(scopes_.end()));
  scopes_.resize(2);
  scopes_.emplace_back();
  if (arguments.positional.size() > statement.parameters.size())
    throw std::invalid_argument("the macro takes " + std::to_string(statement.parameters.size()) + " arguments, " +
                                std::to_string(arguments.positional.size()) + " given");
  for (size_t i = 0; i < statement.parameters.size(); ++i) {
    const Parameter& parameter = statement.parameters[i];
    const Value* given = arguments.find(i, parameter.name);
    const Value value = given != nullptr     ? *given
                        : parameter.fallback ? evaluate(*parameter.fallback)
                                             : Value::undefined(parameter.name);
    scope()[parameter.name] = value;
  }
  for (const auto& [name, value] : arguments.named)
    if (name == "caller") scope()[name] = value;
  std::string text;
  execute(statement.body, text);
  charge(text.size());
  scopes_.resize(2);
  scopes_.insert(scopes_.end(), std::make_move_iterator(outer.begin()), std::make_move_iterator(outer.end()));
  return text;
}

void Run::call_block(const Statement& statement, std::string& out) {
  const Value callee = evaluate(*statement.expr->operands[0]);
  Arguments arguments = evaluate_arguments(statement.expr->arguments);
  arguments.named.emplace_back("caller", macro(statement));
  append(text_of(call(callee, arguments)), out, statement.line);
}

}  // namespace shoal::text::jinja
