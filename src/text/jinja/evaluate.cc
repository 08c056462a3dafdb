// SPDX-License-Identifier: Apache-2.0
// Expressions of a run.
#include <stdexcept>

#include "text/jinja/builtins.h"
#include "text/jinja/lexer.h"
#include "text/jinja/operators.h"
#include "text/jinja/run.h"

namespace shoal::text::jinja {
namespace {

[[noreturn]] void refuse_undefined(const Value& value) {
  throw std::invalid_argument("'" + value.undefined_name() + "' is undefined");
}

}  // namespace

Value Run::lookup(const std::string& name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
    if (const auto it = scope->find(name); it != scope->end()) return it->second;
  return Value::undefined(name);
}

Value Run::evaluate(const Expr& expr) {
  try {
    return evaluate_at_line(expr);
  } catch (const std::length_error& error) {
    template_error(expr.line, error.what(), ErrorKind::kLimit);
  } catch (const std::logic_error& error) {
    template_error(expr.line, error.what());
  }
}

Value Run::evaluate_at_line(const Expr& expr) {
  step();
  if (depth_ >= limits_.depth) throw std::length_error("the template recurses too deep");
  struct Depth {
    int& depth;
    ~Depth() { --depth; }
  } const guard{++depth_};
  return evaluate_kind(expr);
}

Value Run::evaluate_kind(const Expr& expr) {
  const auto operand = [&](size_t i) { return evaluate(*expr.operands[i]); };
  switch (expr.kind) {
    case ExprKind::kConstant:
      return expr.value;
    case ExprKind::kName:
      return lookup(expr.name);
    case ExprKind::kList:
    case ExprKind::kDict:
      return evaluate_collection(expr);
    case ExprKind::kAttribute:
      return attribute(operand(0), expr.name);
    case ExprKind::kItem:
      return evaluate_item(expr);
    case ExprKind::kSlice:
      return evaluate_slice(expr);
    case ExprKind::kCall:
      return evaluate_call(expr);
    case ExprKind::kFilter:
      return evaluate_filter(expr, nullptr);
    case ExprKind::kTest:
      return evaluate_test(expr);
    case ExprKind::kNot:
      return !operand(0).truthy();
    case ExprKind::kNegate:
      return negate(operand(0));
    case ExprKind::kPlus:
      return negate(negate(operand(0)));
    case ExprKind::kAnd:
    case ExprKind::kOr:
    case ExprKind::kIf:
      return evaluate_logic(expr);
    case ExprKind::kBinary:
      return evaluate_binary(expr);
    case ExprKind::kConcat:
      return evaluate_concat(expr);
    case ExprKind::kCompare:
      return evaluate_compare(expr);
  }
  return {};
}

Value Run::evaluate_binary(const Expr& expr) {
  const Value left = evaluate(*expr.operands[0]);
  const Value right = evaluate(*expr.operands[1]);
  Value result = arithmetic(expr.name, left, right, limits_.output_bytes);
  if (result.is_string()) charge(result.string().size());
  if (result.is_list()) charge(result.list().size() * sizeof(Value));
  return result;
}

Value Run::evaluate_collection(const Expr& expr) {
  charge(expr.operands.size() * sizeof(Value));
  if (expr.kind == ExprKind::kList) {
    List list;
    for (const ExprPtr& item : expr.operands) list.push_back(evaluate(*item));
    return list;
  }
  Dict dict;
  for (size_t i = 0; i < expr.operands.size(); i += 2) {
    const Value key = evaluate(*expr.operands[i]);
    if (key.is_list() || key.is_dict())
      throw std::invalid_argument(std::string("a dict's key cannot be a ") + key.type_name());
    dict.set(key, evaluate(*expr.operands[i + 1]));
  }
  return dict;
}

Value Run::evaluate_item(const Expr& expr) {
  const Value object = evaluate(*expr.operands[0]);
  return subscript(object, evaluate(*expr.operands[1]));
}

Value Run::evaluate_slice(const Expr& expr) {
  const auto bound = [&](size_t i) { return expr.operands[i] ? evaluate(*expr.operands[i]) : Value(); };
  const Value object = evaluate(*expr.operands[0]);
  const Value from = bound(1), to = bound(2), step = bound(3);
  charge(object.is_string() ? object.string().size() : object.is_list() ? object.list().size() * sizeof(Value) : 0);
  return slice(object, from, to, step);
}

Value Run::evaluate_logic(const Expr& expr) {
  if (expr.kind == ExprKind::kIf) {
    const bool chosen = evaluate(*expr.operands[0]).truthy();
    const ExprPtr& branch = expr.operands[chosen ? 1 : 2];
    return branch ? evaluate(*branch) : Value::undefined("the inline if has no else, so its value");
  }
  const bool stop_at = expr.kind == ExprKind::kOr;
  Value value;
  for (const ExprPtr& operand : expr.operands) {
    value = evaluate(*operand);
    if (value.truthy() == stop_at) break;
  }
  return value;
}

Value Run::evaluate_compare(const Expr& expr) {
  Value left = evaluate(*expr.operands[0]);
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    Value right = evaluate(*expr.operands[i + 1]);
    if (!compare(expr.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Run::evaluate_concat(const Expr& expr) {
  std::string text;
  for (const ExprPtr& operand : expr.operands) {
    const Value value = evaluate(*operand);
    text += text_of(value);
    charge(text.size());
  }
  return text;
}

Arguments Run::evaluate_arguments(const std::vector<Argument>& arguments) {
  Arguments result;
  for (const Argument& argument : arguments) {
    Value value = evaluate(*argument.value);
    if (argument.name.empty()) {
      result.positional.push_back(std::move(value));
    } else {
      result.named.emplace_back(argument.name, std::move(value));
    }
  }
  return result;
}

Value Run::evaluate_call(const Expr& expr) {
  const Value callee = evaluate(*expr.operands[0]);
  return call(callee, evaluate_arguments(expr.arguments));
}

Value Run::call(const Value& callee, const Arguments& arguments) {
  if (callee.is_undefined()) refuse_undefined(callee);
  if (!callee.is_callable())
    throw std::invalid_argument(std::string("a value of type ") + callee.type_name() + " cannot be called");
  return callee.call()(*this, arguments);
}

Value Run::evaluate_filter(const Expr& expr, const Value* input) {
  const Expr* operand = expr.operands[0].get();
  Value value;
  if (operand == nullptr) {
    value = input != nullptr ? *input : Value();
  } else if (input != nullptr) {
    value = evaluate_filter(*operand, input);  // the chain of a set or filter block
  } else {
    value = evaluate(*operand);
  }
  return apply_filter(expr.name, value, evaluate_arguments(expr.arguments));
}

Value Run::filtered(const Expr* filters, Value input) {
  if (filters == nullptr) return input;
  return evaluate_filter(*filters, &input);
}

Value Run::apply_filter(const std::string& name, const Value& input, const Arguments& arguments) {
  const Filter filter = find_filter(name);
  if (filter == nullptr) throw std::invalid_argument("there is no filter '" + name + "'");
  return filter(*this, input, arguments);
}

Value Run::evaluate_test(const Expr& expr) {
  const Value value = evaluate(*expr.operands[0]);
  return apply_test(expr.name, value, evaluate_arguments(expr.arguments));
}

bool Run::apply_test(const std::string& name, const Value& input, const Arguments& arguments) {
  const Test test = find_test(name);
  if (test == nullptr) throw std::invalid_argument("there is no test '" + name + "'");
  return test(*this, input, arguments);
}

Value Run::attribute(const Value& value, const std::string& name) {
  if (value.is_undefined()) refuse_undefined(value);
  if (value.is_namespace()) {
    const Value* field = namespaces_[value.namespace_index()].find(name);
    return field != nullptr ? *field : Value::undefined(name);
  }
  Value method = find_method(value, name);
  return method.is_undefined() ? item(value, name) : method;
}

Value Run::subscript(const Value& value, const Value& index) {
  if (value.is_undefined()) refuse_undefined(value);
  if (value.is_namespace() && index.is_string()) return attribute(value, index.string());
  Value found = item(value, index);
  return found.is_undefined() && index.is_string() ? find_method(value, index.string()) : found;
}

}  // namespace shoal::text::jinja
