// SPDX-License-Identifier: Apache-2.0
// What may stand behind `is`, and the global functions.
#include <stdexcept>

#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"

namespace shoal::text::jinja {
namespace {

using In = const Value&;
using Args = const Arguments&;
using TestTable = std::unordered_map<std::string, Test>;

constexpr int64_t kLongestRange = 100'000;

const Value& operand(Args args) {
  if (args.positional.empty()) throw std::invalid_argument("the test needs an argument");
  return args.positional[0];
}

int64_t integer_of(In value) {
  if (!value.is_integral())
    throw std::invalid_argument(std::string("the test takes an integer, not ") + value.type_name());
  return value.integer();
}

bool divisible(In value, int64_t by) {
  if (by == 0) throw std::invalid_argument("division by zero");
  return by == -1 || integer_of(value) % by == 0;
}

bool sized(In value) { return value.is_string() || value.is_list() || value.is_dict() || value.is_undefined(); }

template <bool (*kCompare)(In, In)>
bool compared(Run&, In input, Args args) {
  return kCompare(input, operand(args));
}

bool not_equal(In a, In b) { return !equal(a, b); }
bool greater(In a, In b) { return less(b, a); }
bool at_most(In a, In b) { return compare("<=", a, b); }
bool at_least(In a, In b) { return compare(">=", a, b); }
bool within(In a, In b) { return contains(b, a); }

TestTable kind_tests() {
  return {
      {"boolean", [](Run&, In v, Args) { return v.is_bool(); }},
      {"callable", [](Run&, In v, Args) { return v.is_callable(); }},
      {"defined", [](Run&, In v, Args) { return !v.is_undefined(); }},
      {"false", [](Run&, In v, Args) { return v.is_bool() && !v.truthy(); }},
      {"float", [](Run&, In v, Args) { return v.is_float(); }},
      {"integer", [](Run&, In v, Args) { return v.is_int(); }},
      {"iterable", [](Run&, In v, Args) { return sized(v); }},
      {"mapping", [](Run&, In v, Args) { return v.is_dict(); }},
      {"none", [](Run&, In v, Args) { return v.is_none(); }},
      {"number", [](Run&, In v, Args) { return v.is_number(); }},
      {"sequence", [](Run&, In v, Args) { return sized(v); }},
      {"string", [](Run&, In v, Args) { return v.is_string(); }},
      {"true", [](Run&, In v, Args) { return v.is_bool() && v.truthy(); }},
      {"undefined", [](Run&, In v, Args) { return v.is_undefined(); }},
  };
}

void add_value_tests(TestTable& table) {
  table.insert({
      {"divisibleby", [](Run&, In v, Args args) { return divisible(v, integer_of(operand(args))); }},
      {"even", [](Run&, In v, Args) { return divisible(v, 2); }},
      {"odd", [](Run&, In v, Args) { return !divisible(v, 2); }},
      {"lower", [](Run&, In v, Args) { return v.is_string() && lower(v.string()) == v.string(); }},
      {"upper", [](Run&, In v, Args) { return v.is_string() && upper(v.string()) == v.string(); }},
      {"eq", compared<equal>},
      {"equalto", compared<equal>},
      {"==", compared<equal>},
      {"ne", compared<not_equal>},
      {"!=", compared<not_equal>},
      {"lt", compared<less>},
      {"lessthan", compared<less>},
      {"<", compared<less>},
      {"le", compared<at_most>},
      {"<=", compared<at_most>},
      {"gt", compared<greater>},
      {"greaterthan", compared<greater>},
      {">", compared<greater>},
      {"ge", compared<at_least>},
      {">=", compared<at_least>},
      {"in", compared<within>},
      {"sameas", compared<equal>},
  });
}

Value range(Run& run, Args args) {
  const size_t given = args.positional.size();
  if (given < 1 || given > 3 || !args.named.empty()) throw std::invalid_argument("range takes one to three integers");
  for (const Value& value : args.positional) integer_of(value);
  const int64_t from = given > 1 ? args.positional[0].integer() : 0;
  const int64_t to = args.positional[given > 1 ? 1 : 0].integer();
  const int64_t step = given > 2 ? args.positional[2].integer() : 1;
  if (step == 0) throw std::invalid_argument("range cannot step by 0");
  List result;
  for (int64_t i = from; step > 0 ? i < to : i > to;) {
    if (result.size() >= static_cast<size_t>(kLongestRange))
      throw std::length_error("range is longer than " + std::to_string(kLongestRange));
    result.push_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  run.charge(result.size() * sizeof(Value));
  return result;
}

Dict fields_of(Args args) {
  Dict fields;
  for (const Value& value : args.positional) {
    if (!value.is_dict()) throw std::invalid_argument(std::string("expected a dict, not ") + value.type_name());
    for (const auto& [key, item] : value.dict().items()) fields.set(key, item);
  }
  for (const auto& [name, value] : args.named) fields.set(name, value);
  return fields;
}

}  // namespace

Test find_test(const std::string& name) {
  static const TestTable table = [] {
    TestTable tests = kind_tests();
    add_value_tests(tests);
    tests.insert({{"filter", [](Run&, In v, Args) { return v.is_string() && find_filter(v.string()) != nullptr; }},
                  {"test", [](Run&, In v, Args) { return v.is_string() && find_test(v.string()) != nullptr; }}});
    return tests;
  }();
  const auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

std::vector<std::pair<std::string, Value>> global_functions() {
  return {
      {"range", Value::callable(range)},
      {"dict", Value::callable([](Run&, Args args) { return Value(fields_of(args)); })},
      {"namespace", Value::callable([](Run& run, Args args) { return run.make_namespace(fields_of(args)); })},
  };
}

}  // namespace shoal::text::jinja
