// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "text/utf8.h"

namespace shoal::text::jinja {
namespace {

[[noreturn]] void refuse(const std::string& reason) { throw std::invalid_argument(reason); }

[[noreturn]] void refuse_types(std::string_view op, const Value& a, const Value& b) {
  for (const Value* value : {&a, &b})
    if (value->is_undefined()) refuse("'" + value->undefined_name() + "' is undefined");
  refuse("operator " + std::string(op) + " does not take " + a.type_name() + " and " + b.type_name());
}

int64_t checked(bool overflow, int64_t value) {
  if (overflow) refuse("an integer is too large");
  return value;
}

int64_t floor_divide(int64_t a, int64_t b) {
  if (b == 0) refuse("division by zero");
  if (a == INT64_MIN && b == -1) refuse("an integer is too large");
  const int64_t quotient = a / b;
  return quotient - ((a % b != 0) && ((a < 0) != (b < 0)));
}

Value integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    bool overflow = (exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result);
    if (exponent > 1) overflow = __builtin_mul_overflow(base, base, &base) || overflow;
    if (overflow) refuse("an integer is too large");
  }
  return result;
}

Value integers(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  if (op == "+") {
    const bool overflow = __builtin_add_overflow(a, b, &result);
    return checked(overflow, result);
  }
  if (op == "-") {
    const bool overflow = __builtin_sub_overflow(a, b, &result);
    return checked(overflow, result);
  }
  if (op == "*") {
    const bool overflow = __builtin_mul_overflow(a, b, &result);
    return checked(overflow, result);
  }
  if (op == "//") return floor_divide(a, b);
  if (op == "%") return b == -1 ? 0 : a - floor_divide(a, b) * b;
  if (op == "**") return integer_power(a, b);
  if (b == 0) refuse("division by zero");
  return static_cast<double>(a) / static_cast<double>(b);
}

Value floats(std::string_view op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  if (b == 0) refuse("division by zero");
  if (op == "/") return a / b;
  if (op == "//") return std::floor(a / b);
  const double rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

Value repeat(const Value& value, int64_t count, size_t max_size) {
  const size_t times = count > 0 ? static_cast<size_t>(count) : 0;
  const size_t size = value.is_string() ? value.string().size() : value.list().size() * sizeof(Value);
  if (size > 0 && times > max_size / size) refuse("the result of * is too large");
  if (value.is_string()) {
    std::string result;
    for (size_t i = 0; i < times && size > 0; ++i) result += value.string();
    return result;
  }
  List result;
  for (size_t i = 0; i < times && size > 0; ++i) result.insert(result.end(), value.list().begin(), value.list().end());
  return result;
}

// An index as Python counts, from the end if negative; -1 if outside.
int64_t position(int64_t index, size_t size) {
  const auto count = static_cast<int64_t>(size);
  if (index < 0) index += count;
  return index >= 0 && index < count ? index : -1;
}

struct Range {
  int64_t from, to, step;
};

// Python's slice.indices().
Range slice_range(const Value& from, const Value& to, const Value& step, size_t size) {
  for (const Value* bound : {&from, &to, &step})
    if (!bound->is_none() && !bound->is_integral()) refuse("slice bounds must be integers or none");
  const auto count = static_cast<int64_t>(size);
  const int64_t by = step.is_none() ? 1 : step.integer();
  if (by == 0 || by == INT64_MIN) refuse("slice step cannot be " + std::to_string(by));
  const int64_t lowest = by < 0 ? -1 : 0, highest = by < 0 ? count - 1 : count;
  const auto bound = [&](const Value& value, int64_t fallback) {
    if (value.is_none()) return fallback;
    const int64_t index = value.integer();
    return index < 0 ? std::max(index + count, lowest) : std::min(index, highest);
  };
  return {bound(from, by < 0 ? highest : lowest), bound(to, by < 0 ? lowest : highest), by};
}

template <typename Sequence>
Sequence take_slice(const Sequence& from, const Range& range) {
  Sequence result;
  const auto size = static_cast<int64_t>(from.size());
  const auto wanted = [&](int64_t i) { return range.step > 0 ? i < range.to : i > range.to; };
  for (int64_t i = range.from; wanted(i) && i >= 0 && i < size;) {
    result.push_back(from[static_cast<size_t>(i)]);
    if (__builtin_add_overflow(i, range.step, &i)) break;
  }
  return result;
}

bool equal_dicts(const Dict& a, const Dict& b) {
  if (a.size() != b.size()) return false;
  return std::all_of(a.items().begin(), a.items().end(), [&](const auto& entry) {
    const Value* other = b.find(entry.first);
    return other != nullptr && equal(entry.second, *other);
  });
}

}  // namespace

bool equal(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.is_string() && b.is_string()) return a.string() == b.string();
  if (a.is_list() && b.is_list())
    return std::equal(a.list().begin(), a.list().end(), b.list().begin(), b.list().end(), equal);
  if (a.is_dict() && b.is_dict()) return equal_dicts(a.dict(), b.dict());
  if (a.is_namespace() && b.is_namespace()) return a.namespace_index() == b.namespace_index();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

bool less(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() < b.integer();
  if (a.is_number() && b.is_number()) return a.number() < b.number();
  if (a.is_string() && b.is_string()) return a.string() < b.string();  // UTF-8 sorts as its code points do
  if (a.is_list() && b.is_list())
    return std::lexicographical_compare(a.list().begin(), a.list().end(), b.list().begin(), b.list().end(), less);
  refuse_types("<", a, b);
}

bool contains(const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) refuse_types("in", item, container);
    return container.string().find(item.string()) != std::string::npos;
  }
  if (container.is_dict()) return container.dict().find(item) != nullptr;
  if (container.is_undefined()) return false;
  if (!container.is_list()) refuse_types("in", item, container);
  return std::any_of(container.list().begin(), container.list().end(),
                     [&](const Value& own) { return equal(own, item); });
}

bool compare(std::string_view op, const Value& a, const Value& b) {
  if (op == "==") return equal(a, b);
  if (op == "!=") return !equal(a, b);
  if (op == "<") return less(a, b);
  if (op == ">") return less(b, a);
  if (op == "in") return contains(b, a);
  if (op == "not in") return !contains(b, a);
  return op == "<=" ? less(a, b) || equal(a, b) : less(b, a) || equal(a, b);
}

Value arithmetic(std::string_view op, const Value& a, const Value& b, size_t max_size) {
  if (a.is_integral() && b.is_integral()) return integers(op, a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return floats(op, a.number(), b.number());
  const auto is_sequence = [](const Value& value) { return value.is_string() || value.is_list(); };
  if (op == "*" && is_sequence(a) && b.is_integral()) return repeat(a, b.integer(), max_size);
  if (op == "*" && is_sequence(b) && a.is_integral()) return repeat(b, a.integer(), max_size);
  if (op != "+" || !is_sequence(a) || a.is_string() != b.is_string() || a.is_list() != b.is_list())
    refuse_types(op, a, b);
  if (a.is_string()) {
    if (a.string().size() + b.string().size() > max_size) refuse("the result of + is too large");
    return a.string() + b.string();
  }
  if (a.list().size() + b.list().size() > max_size / sizeof(Value)) refuse("the result of + is too large");
  List result = a.list();
  result.insert(result.end(), b.list().begin(), b.list().end());
  return result;
}

Value negate(const Value& value) {
  if (value.is_integral()) return integers("-", 0, value.integer());
  if (!value.is_float()) refuse(std::string("unary - does not take ") + value.type_name());
  return -value.number();
}

Value item(const Value& value, const Value& index) {
  if (value.is_dict()) {
    const Value* found = value.dict().find(index);
    return found != nullptr ? *found : Value::undefined(index.is_string() ? index.string() : "item");
  }
  if (!index.is_integral()) return Value::undefined(index.is_string() ? index.string() : "item");
  if (value.is_list()) {
    const int64_t at = position(index.integer(), value.list().size());
    return at >= 0 ? value.list()[static_cast<size_t>(at)]
                   : Value::undefined("item " + std::to_string(index.integer()));
  }
  if (!value.is_string()) return Value::undefined("item");
  const std::u32string characters = to_code_points(value.string());
  const int64_t at = position(index.integer(), characters.size());
  return at >= 0 ? Value(to_utf8(characters.substr(static_cast<size_t>(at), 1))) : Value::undefined("item");
}

Value slice(const Value& value, const Value& from, const Value& to, const Value& step) {
  if (value.is_list()) return take_slice(value.list(), slice_range(from, to, step, value.list().size()));
  if (value.is_undefined()) refuse("'" + value.undefined_name() + "' is undefined");
  if (!value.is_string()) refuse(std::string("a slice of ") + value.type_name() + " is not possible");
  const std::u32string characters = to_code_points(value.string());
  return to_utf8(take_slice(characters, slice_range(from, to, step, characters.size())));
}

List elements(const Value& value) {
  if (value.is_list()) return value.list();
  if (value.is_undefined()) return {};
  List result;
  if (value.is_dict()) {
    for (const auto& [key, unused] : value.dict().items()) result.push_back(key);
    return result;
  }
  if (!value.is_string()) refuse(std::string(value.type_name()) + " cannot be looped over");
  const std::string_view text = value.string();
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    next_code_point(text, at);
    result.emplace_back(text.substr(begin, at - begin));
  }
  return result;
}

}  // namespace shoal::text::jinja
