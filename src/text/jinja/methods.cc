// SPDX-License-Identifier: Apache-2.0
// Methods of strings, lists and dicts that templates call, with Python's meaning. Those that would change their object are absent,
// as in the sandbox that Hugging Face runs templates in.
#include <unicode/uchar.h>

#include <algorithm>
#include <stdexcept>

#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/utf8.h"

namespace shoal::text::jinja {
namespace {

using Args = const Arguments&;
template <typename Object>
using Method = Value (*)(Run&, const Object&, Args);
template <typename Object>
using MethodTable = std::unordered_map<std::string, Method<Object>>;

const Value* optional_text(Args args) { return args.find(0, "chars"); }

// The argument of startswith and endswith: a string, or several in a list.
template <typename Holds>
bool any_affix(Args args, Holds holds) {
  if (args.positional.empty()) throw std::invalid_argument("startswith and endswith need a string");
  const Value& affix = args.positional[0];
  if (!affix.is_list()) return holds(text_of_string(affix, "startswith or endswith"));
  return std::any_of(affix.list().begin(), affix.list().end(),
                     [&](const Value& one) { return holds(text_of_string(one, "startswith or endswith")); });
}

// str.split without a separator: words between white space.
List split_words(const std::string& text, int64_t limit) {
  List words;
  std::string_view rest = strip_left(text);
  while (!rest.empty()) {
    if (limit >= 0 && static_cast<int64_t>(words.size()) == limit) {
      words.emplace_back(strip_right(rest));
      break;
    }
    size_t end = 0;
    for (size_t next = 0; end < rest.size() && !is_python_space(next_code_point(rest, next)); end = next) {
    }
    words.emplace_back(rest.substr(0, end));
    rest = strip_left(rest.substr(end));
  }
  return words;
}

List split_at(std::string_view text, const std::string& separator, int64_t limit) {
  if (separator.empty()) throw std::invalid_argument("split: the separator is empty");
  List parts;
  for (size_t at = text.find(separator); at != std::string::npos && limit != 0; at = text.find(separator), --limit) {
    parts.emplace_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  parts.emplace_back(text);
  return parts;
}

List split_at_from_right(std::string_view text, const std::string& separator, int64_t limit) {
  if (separator.empty()) throw std::invalid_argument("rsplit: the separator is empty");
  List parts;
  for (size_t at = text.rfind(separator); at != std::string::npos && limit != 0; at = text.rfind(separator), --limit) {
    parts.emplace_back(text.substr(at + separator.size()));
    text = text.substr(0, at);
  }
  parts.emplace_back(text);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

Value split(Run& run, const std::string& text, Args args) {
  run.charge(text.size() * sizeof(Value) / 2);  // a part may be as short as a byte
  const Value* separator = args.find(0, "sep");
  const int64_t limit = integer_argument(args, 1, "maxsplit", -1);
  if (separator == nullptr || separator->is_none()) return split_words(text, limit);
  return split_at(text, text_of_string(*separator, "split"), limit);
}

Value rsplit(Run& run, const std::string& text, Args args) {
  run.charge(text.size() * sizeof(Value) / 2);
  return split_at_from_right(text, string_argument(args, 0, "sep", nullptr), integer_argument(args, 1, "maxsplit", -1));
}

Value splitlines(Run& run, const std::string& text, Args args) {
  run.charge(text.size() * sizeof(Value) / 2);
  const bool keep_ends = bool_argument(args, 0, "keepends", false);
  List lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find_first_of("\n\r", begin), text.size());
    const size_t next = std::min(end + (text.compare(end, 2, "\r\n") == 0 ? 2 : 1), text.size());
    lines.emplace_back(text.substr(begin, (keep_ends ? next : end) - begin));
    begin = next;
  }
  return lines;
}

int64_t find_text(const std::string& text, Args args, bool last) {
  const std::string wanted = string_argument(args, 0, "sub", nullptr);
  const size_t at = last ? text.rfind(wanted) : text.find(wanted);
  return at == std::string::npos ? -1 : static_cast<int64_t>(count_code_points(std::string_view(text).substr(0, at)));
}

Value count_text(Run&, const std::string& text, Args args) {
  const std::string wanted = string_argument(args, 0, "sub", nullptr);
  if (wanted.empty()) return count_code_points(text) + 1;
  int64_t count = 0;
  for (size_t at = text.find(wanted); at != std::string::npos; at = text.find(wanted, at + wanted.size())) ++count;
  return count;
}

// "{} {0} {name}".format(…), without format specifications.
Value format(Run& run, const std::string& text, Args args) {
  std::string result;
  size_t next = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool doubled = i + 1 < text.size() && text[i + 1] == text[i];
    if ((text[i] != '{' && text[i] != '}') || doubled) {
      result += text[i];
      if (text[i] == '{' || text[i] == '}') ++i;
      continue;
    }
    const size_t end = text.find('}', i);
    if (text[i] == '}' || end == std::string::npos) throw std::invalid_argument("format: a brace without its partner");
    const std::string field = text.substr(i + 1, end - i - 1);
    const bool number = field.find_first_not_of("0123456789") == std::string::npos && field.size() < 6;
    const size_t index = !number ? SIZE_MAX : field.empty() ? next++ : static_cast<size_t>(std::stoul(field));
    const Value* value = args.find(index, field);
    if (value == nullptr) throw std::invalid_argument("format: there is no value for {" + field + "}");
    result += run.text_of(*value);
    run.charge(result.size());
    i = end;
  }
  return result;
}

template <typename Holds>
bool all_characters(const std::string& text, Holds holds) {
  const std::u32string all = to_code_points(text);
  return !all.empty() &&
         std::all_of(all.begin(), all.end(), [&](char32_t c) { return holds(static_cast<UChar32>(c)); });
}

bool is_letter(UChar32 c) { return (U_GET_GC_MASK(c) & U_GC_L_MASK) != 0; }

MethodTable<std::string> case_methods() {
  using Text = const std::string&;
  return {
      {"capitalize", [](Run&, Text s, Args) { return Value(capitalize(s)); }},
      {"isalnum",
       [](Run&, Text s, Args) {
         return Value(all_characters(s, [](UChar32 c) { return is_letter(c) || u_isdigit(c); }));
       }},
      {"isalpha", [](Run&, Text s, Args) { return Value(all_characters(s, is_letter)); }},
      {"isdigit",
       [](Run&, Text s, Args) { return Value(all_characters(s, [](UChar32 c) { return u_isdigit(c) != 0; })); }},
      {"islower", [](Run&, Text s, Args) { return Value(lower(s) == s && upper(s) != s); }},
      {"isspace", [](Run&, Text s, Args) { return Value(!s.empty() && strip_left(s).empty()); }},
      {"isupper", [](Run&, Text s, Args) { return Value(upper(s) == s && lower(s) != s); }},
      {"lower", [](Run&, Text s, Args) { return Value(lower(s)); }},
      {"title", [](Run&, Text s, Args) { return Value(title(s)); }},
      {"upper", [](Run&, Text s, Args) { return Value(upper(s)); }},
  };
}

void add_part_methods(MethodTable<std::string>& table) {
  using Text = const std::string&;
  table.insert({
      {"count", count_text},
      {"endswith",
       [](Run&, Text s, Args a) { return Value(any_affix(a, [&](Text end) { return s.ends_with(end); })); }},
      {"find", [](Run&, Text s, Args a) { return Value(find_text(s, a, false)); }},
      {"format", format},
      {"join", [](Run& run, Text s,
                  Args a) { return Value(join(run, elements(a.positional.empty() ? Value() : a.positional[0]), s)); }},
      {"lstrip", [](Run&, Text s, Args a) { return Value(strip(s, optional_text(a), true, false)); }},
      {"removeprefix",
       [](Run&, Text s, Args a) {
         const std::string affix = string_argument(a, 0, "prefix", nullptr);
         return Value(s.starts_with(affix) ? s.substr(affix.size()) : s);
       }},
      {"removesuffix",
       [](Run&, Text s, Args a) {
         const std::string affix = string_argument(a, 0, "suffix", nullptr);
         return Value(s.ends_with(affix) ? s.substr(0, s.size() - affix.size()) : s);
       }},
      {"replace",
       [](Run& run, Text s, Args a) {
         return Value(replace(run, s, string_argument(a, 0, "old", nullptr), string_argument(a, 1, "new", nullptr),
                              integer_argument(a, 2, "count", -1)));
       }},
      {"rfind", [](Run&, Text s, Args a) { return Value(find_text(s, a, true)); }},
      {"rsplit", rsplit},
      {"rstrip", [](Run&, Text s, Args a) { return Value(strip(s, optional_text(a), false, true)); }},
      {"split", split},
      {"splitlines", splitlines},
      {"startswith",
       [](Run&, Text s, Args a) { return Value(any_affix(a, [&](Text begin) { return s.starts_with(begin); })); }},
      {"strip", [](Run&, Text s, Args a) { return Value(strip(s, optional_text(a), true, true)); }},
  });
}

const MethodTable<std::string>& string_methods() {
  static const MethodTable<std::string> table = [] {
    MethodTable<std::string> methods = case_methods();
    add_part_methods(methods);
    return methods;
  }();
  return table;
}

const MethodTable<List>& list_methods() {
  static const MethodTable<List> table = {
      {"count",
       [](Run&, const List& list, Args a) {
         if (a.positional.empty()) throw std::invalid_argument("count needs a value");
         return Value(static_cast<int64_t>(
             std::count_if(list.begin(), list.end(), [&](const Value& v) { return equal(v, a.positional[0]); })));
       }},
      {"index",
       [](Run&, const List& list, Args a) {
         for (size_t i = 0; i < list.size() && !a.positional.empty(); ++i)
           if (equal(list[i], a.positional[0])) return Value(i);
         throw std::invalid_argument("index: the value is not in the list");
       }},
  };
  return table;
}

const MethodTable<Dict>& dict_methods() {
  static const MethodTable<Dict> table = {
      {"copy", [](Run&, const Dict& dict, Args) { return Value(dict); }},
      {"get",
       [](Run&, const Dict& dict, Args a) {
         if (a.positional.empty()) throw std::invalid_argument("get needs a key");
         const Value* found = dict.find(a.positional[0]);
         const Value* otherwise = a.find(1, "default");
         return found != nullptr ? *found : otherwise != nullptr ? *otherwise : Value();
       }},
      {"items", [](Run& run, const Dict& dict, Args) { return run.apply_filter("items", dict, {}); }},
      {"keys", [](Run&, const Dict& dict, Args) { return Value(elements(dict)); }},
      {"values",
       [](Run&, const Dict& dict, Args) {
         List values;
         for (const auto& [key, value] : dict.items()) values.push_back(value);
         return Value(std::move(values));
       }},
  };
  return table;
}

template <typename Object>
Value bind(const MethodTable<Object>& table, const std::string& name, const Value& object,
           const Object& (Value::*get)() const) {
  const auto it = table.find(name);
  if (it == table.end()) return Value::undefined(name);
  const auto call = [method = it->second, object, get](Run& run, const Arguments& arguments) {
    return method(run, (object.*get)(), arguments);
  };
  return Value::callable(call, object);
}

}  // namespace

Value find_method(const Value& object, const std::string& name) {
  if (object.is_string()) return bind(string_methods(), name, object, &Value::string);
  if (object.is_list()) return bind(list_methods(), name, object, &Value::list);
  if (object.is_dict()) return bind(dict_methods(), name, object, &Value::dict);
  return Value::undefined(name);
}

}  // namespace shoal::text::jinja
