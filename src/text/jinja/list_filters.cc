// SPDX-License-Identifier: Apache-2.0
// Filters of lists and dicts.
#include <algorithm>
#include <stdexcept>

#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/utf8.h"

namespace shoal::text::jinja {
namespace {

using In = const Value&;
using Args = const Arguments&;

List items_of(Run& run, In input) {
  List list = elements(input);
  run.charge(list.size() * sizeof(Value));
  return list;
}

Value length(Run&, In input, Args) {
  if (input.is_string()) return count_code_points(input.string());
  if (input.is_list()) return input.list().size();
  if (input.is_dict()) return input.dict().size();
  if (input.is_undefined()) return 0;
  throw std::invalid_argument(std::string(input.type_name()) + " has no length");
}

// A dotted path of attributes and indices: "function.name", "0".
Value path_value(Run& run, Value value, const Value& path) {
  if (path.is_integral()) return run.subscript(value, path);
  const std::string& text = text_of_string(path, "an attribute");
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const bool number = !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string::npos;
    value = number ? run.subscript(value, static_cast<int64_t>(std::stoll(part))) : run.subscript(value, part);
    begin = end + 1;
  }
  return value;
}

Value map(Run& run, In input, Args args) {
  List result;
  if (!input.truthy()) return result;  // none too
  const Value* attribute = args.find(SIZE_MAX, "attribute");
  const Value* otherwise = args.find(SIZE_MAX, "default");
  Arguments rest = args;
  if (attribute == nullptr) {
    if (rest.positional.empty()) throw std::invalid_argument("map needs a filter's name or attribute=");
    rest.positional.erase(rest.positional.begin());
  }
  for (const Value& item : items_of(run, input)) {
    if (attribute == nullptr) {
      result.push_back(run.apply_filter(text_of_string(args.positional[0], "map"), item, rest));
      continue;
    }
    Value value = path_value(run, item, *attribute);
    if (value.is_undefined() && otherwise != nullptr) value = *otherwise;
    result.push_back(std::move(value));
  }
  return result;
}

// select, reject: by a test, or by truth. selectattr, rejectattr: the same on an attribute.
Value choose(Run& run, In input, Args args, bool by_attribute, bool keep) {
  Arguments rest = args;
  const auto shift = [&] {
    Value first = rest.positional.front();
    rest.positional.erase(rest.positional.begin());
    return first;
  };
  if (by_attribute && rest.positional.empty())
    throw std::invalid_argument("selectattr and rejectattr need an attribute's name");
  const Value attribute = by_attribute ? shift() : Value();
  const bool has_test = !rest.positional.empty();
  const std::string test = has_test ? text_of_string(shift(), "a test's name") : std::string();
  List result;
  if (!input.truthy()) return result;  // none too
  for (const Value& item : items_of(run, input)) {
    const Value value = by_attribute ? path_value(run, item, attribute) : item;
    const bool holds = has_test ? run.apply_test(test, value, rest) : value.truthy();
    if (holds == keep) result.push_back(item);
  }
  return result;
}

Value first(Run& run, In input, Args) {
  const List items = items_of(run, input);
  return items.empty() ? Value::undefined("the first item of an empty list") : items.front();
}

Value last(Run& run, In input, Args) {
  const List items = items_of(run, input);
  return items.empty() ? Value::undefined("the last item of an empty list") : items.back();
}

Value join_filter(Run& run, In input, Args args) {
  List items = items_of(run, input);
  if (const Value* attribute = args.find(1, "attribute"); attribute != nullptr && !attribute->is_none())
    for (Value& item : items) item = path_value(run, item, *attribute);
  return join(run, items, string_argument(args, 0, "d", ""));
}

Value pairs(Run& run, In input, Args) {
  if (input.is_undefined()) return List{};
  if (!input.is_dict()) throw std::invalid_argument(std::string("items takes a dict, not ") + input.type_name());
  run.charge(input.dict().size() * 2 * sizeof(Value));
  List result;
  for (const auto& [key, value] : input.dict().items()) result.push_back(List{key, value});
  return result;
}

// Strings compare without case unless asked otherwise, as Jinja does.
Value sort_key(Run& run, In item, const Value* attribute, bool case_sensitive) {
  Value key = attribute != nullptr && !attribute->is_none() ? path_value(run, item, *attribute) : item;
  if (key.is_undefined()) throw std::invalid_argument("'" + key.undefined_name() + "' is undefined");
  return key.is_string() && !case_sensitive ? Value(lower(key.string())) : key;
}

List sorted(Run& run, const List& items, const Value* attribute, bool case_sensitive, bool reverse) {
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items) keyed.emplace_back(sort_key(run, item, attribute, case_sensitive), item);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first) : less(a.first, b.first);
  });
  List result;
  for (auto& [key, item] : keyed) result.push_back(std::move(item));
  return result;
}

Value sort(Run& run, In input, Args args) {
  return sorted(run, items_of(run, input), args.find(2, "attribute"), bool_argument(args, 1, "case_sensitive", false),
                bool_argument(args, 0, "reverse", false));
}

Value dictsort(Run& run, In input, Args args) {
  const Value by = string_argument(args, 1, "by", "key") == "value" ? 1 : 0;
  return sorted(run, pairs(run, input, {}).list(), &by, bool_argument(args, 0, "case_sensitive", false),
                bool_argument(args, 2, "reverse", false));
}

Value unique(Run& run, In input, Args args) {
  const bool case_sensitive = bool_argument(args, 0, "case_sensitive", false);
  const Value* attribute = args.find(1, "attribute");
  List seen, result;
  for (const Value& item : items_of(run, input)) {
    const Value key = sort_key(run, item, attribute, case_sensitive);
    run.charge(seen.size());  // this is quadratic
    if (contains(seen, key)) continue;
    seen.push_back(key);
    result.push_back(item);
  }
  return result;
}

Value reverse(Run& run, In input, Args) {
  if (input.is_string()) return slice(input, {}, {}, -1);
  List items = items_of(run, input);
  std::reverse(items.begin(), items.end());
  return items;
}

Value sum(Run& run, In input, Args args) {
  const Value* start = args.find(1, "start");
  const Value* attribute = args.find(0, "attribute");
  Value total = start != nullptr ? *start : Value(0);
  for (const Value& item : items_of(run, input)) {
    total = arithmetic("+", total, attribute != nullptr ? path_value(run, item, *attribute) : item,
                       run.limits().output_bytes);
    if (total.is_string() || total.is_list()) run.charge(static_cast<size_t>(length(run, total, {}).integer()));
  }
  return total;
}

Value extreme(Run& run, In input, Args args, bool highest) {
  const List items = items_of(run, input);
  if (items.empty()) return Value::undefined("the extreme of an empty list");
  const List order =
      sorted(run, items, args.find(1, "attribute"), bool_argument(args, 0, "case_sensitive", false), highest);
  return order.front();
}

}  // namespace

const FilterTable& list_filters() {
  static const FilterTable table = {
      {"count", length},
      {"dictsort", dictsort},
      {"first", first},
      {"items", pairs},
      {"join", join_filter},
      {"last", last},
      {"length", length},
      {"list", [](Run& run, In input, Args) { return Value(items_of(run, input)); }},
      {"map", map},
      {"max", [](Run& run, In input, Args args) { return extreme(run, input, args, true); }},
      {"min", [](Run& run, In input, Args args) { return extreme(run, input, args, false); }},
      {"reject", [](Run& run, In input, Args args) { return choose(run, input, args, false, false); }},
      {"rejectattr", [](Run& run, In input, Args args) { return choose(run, input, args, true, false); }},
      {"reverse", reverse},
      {"select", [](Run& run, In input, Args args) { return choose(run, input, args, false, true); }},
      {"selectattr", [](Run& run, In input, Args args) { return choose(run, input, args, true, true); }},
      {"sort", sort},
      {"sum", sum},
      {"unique", unique},
  };
  return table;
}

}  // namespace shoal::text::jinja
