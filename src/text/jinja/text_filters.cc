// SPDX-License-Identifier: Apache-2.0
// Filters of one value: text, numbers, JSON.
#include <charconv>
#include <cmath>
#include <stdexcept>

#include "text/jinja/builtins.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"
#include "text/utf8.h"

namespace shoal::text::jinja {
namespace {

using In = const Value&;
using Args = const Arguments&;

Value tojson(Run& run, In input, Args args) {
  JsonStyle style;
  const Value* indent = args.find(1, "indent");
  if (indent != nullptr && !indent->is_none()) {
    const int64_t spaces = integer_argument(args, 1, "indent", 0);
    if (spaces < 0 || spaces > 64) throw std::invalid_argument("indent must be in 0 .. 64");
    style.indent = static_cast<int>(spaces);
    style.item_separator.assign(1, ',');  // plain = "," draws a false warning from gcc 12
  }
  // The one positional argument that templates use is the indent.
  if (indent == nullptr && !args.positional.empty() && args.positional[0].is_int()) {
    Arguments named;
    named.named.emplace_back("indent", args.positional[0]);
    return tojson(run, input, named);
  }
  style.ensure_ascii = bool_argument(args, 0, "ensure_ascii", false);
  if (const Value* separators = args.find(2, "separators"); separators != nullptr && !separators->is_none()) {
    if (!separators->is_list() || separators->list().size() != 2)
      throw std::invalid_argument("separators must be two strings");
    style.item_separator = text_of_string(separators->list()[0], "separators");
    style.key_separator = text_of_string(separators->list()[1], "separators");
  }
  style.sort_keys = bool_argument(args, 3, "sort_keys", false);
  std::string text = to_json(input, style, run.limits().output_bytes);
  run.charge(text.size());
  return text;
}

// Undefined (with the second argument true: anything false) becomes the first argument.
Value fallback(Run&, In input, Args args) {
  const Value* value = args.find(0, "default_value");
  const bool replaced = input.is_undefined() || (bool_argument(args, 1, "boolean", false) && !input.truthy());
  if (!replaced) return input;
  return value != nullptr ? *value : Value("");
}

Value trim(Run& run, In input, Args args) { return strip(run.text_of(input), args.find(0, "chars"), true, true); }

Value replace_filter(Run& run, In input, Args args) {
  return replace(run, run.text_of(input), string_argument(args, 0, "old", nullptr),
                 string_argument(args, 1, "new", nullptr), integer_argument(args, 2, "count", -1));
}

Value to_integer(Run&, In input, Args args) {
  const int64_t otherwise = integer_argument(args, 0, "default", 0);
  if (input.is_integral()) return input.integer();
  if (input.is_float()) return std::abs(input.number()) < 9e18 ? static_cast<int64_t>(input.number()) : otherwise;
  if (!input.is_string()) return otherwise;
  const std::string text = strip(input.string(), nullptr, true, true);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : otherwise;
}

Value to_float(Run&, In input, Args args) {
  const Value* otherwise = args.find(0, "default");
  if (input.is_number()) return input.number();
  double value = 0;
  if (input.is_string()) {
    const std::string text = strip(input.string(), nullptr, true, true);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && end == text.data() + text.size()) return value;
  }
  return otherwise != nullptr ? *otherwise : Value(0.0);
}

Value absolute(Run&, In input, Args) {
  if (!input.is_number()) throw std::invalid_argument("abs takes a number");
  if (input.is_float()) return std::abs(input.number());
  return input.integer() < 0 ? negate(input) : input;
}

Value round_filter(Run&, In input, Args args) {
  if (!input.is_number()) throw std::invalid_argument("round takes a number");
  const double scale = std::pow(10.0, static_cast<double>(integer_argument(args, 0, "precision", 0)));
  const std::string method = string_argument(args, 1, "method", "common");
  const double scaled = input.number() * scale;
  const double rounded = method == "ceil"    ? std::ceil(scaled)
                         : method == "floor" ? std::floor(scaled)
                                             : std::nearbyint(scaled);
  return rounded / scale;
}

Value indent(Run& run, In input, Args args) {
  const Value* width = args.find(0, "width");
  std::string margin = "    ";
  if (width != nullptr && width->is_string()) margin = width->string();
  if (width != nullptr && width->is_integral()) {
    if (width->integer() > 1000) throw std::invalid_argument("indent is wider than 1000");
    margin.assign(static_cast<size_t>(std::max<int64_t>(width->integer(), 0)), ' ');
  }
  const bool first = bool_argument(args, 1, "first", false), blank = bool_argument(args, 2, "blank", false);
  const std::string text = run.text_of(input);
  std::string result = first ? margin : "";
  for (size_t i = 0; i < text.size(); ++i) {
    result += text[i];
    if (text[i] != '\n') continue;
    const bool empty_line = i + 1 == text.size() || text[i + 1] == '\n';
    if (blank || !empty_line) result += margin;
    if (result.size() > run.limits().output_bytes) throw std::length_error("the result of indent is too large");
  }
  run.charge(result.size());
  return result;
}

Value escape_html(Run& run, In input, Args) {
  std::string result;
  for (const char c : run.text_of(input)) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '\'':
        result += "&#39;";
        break;
      case '"':
        result += "&#34;";
        break;
      default:
        result += c;
    }
  }
  run.charge(result.size());
  return result;
}

// "%s and %d" % values, as far as templates go: %s, %d, %i, %%.
Value format_filter(Run& run, In input, Args args) {
  const std::string& pattern = text_of_string(input, "format");
  std::string result;
  size_t next = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%' || i + 1 == pattern.size()) {
      result += pattern[i];
      continue;
    }
    const char kind = pattern[++i];
    if (kind == '%') {
      result += '%';
      continue;
    }
    if (kind != 's' && kind != 'd' && kind != 'i') throw std::invalid_argument("format knows %s, %d, %i and %% only");
    if (next >= args.positional.size()) throw std::invalid_argument("format has too few arguments");
    result += run.text_of(args.positional[next++]);
    run.charge(result.size());
  }
  return result;
}

}  // namespace

const FilterTable& text_filters() {
  static const FilterTable table = {
      {"abs", absolute},
      {"capitalize", [](Run& run, In input, Args) { return Value(capitalize(run.text_of(input))); }},
      {"d", fallback},
      {"default", fallback},
      {"e", escape_html},
      {"escape", escape_html},
      {"float", to_float},
      {"format", format_filter},
      {"indent", indent},
      {"int", to_integer},
      {"lower", [](Run& run, In input, Args) { return Value(lower(run.text_of(input))); }},
      {"replace", replace_filter},
      {"round", round_filter},
      {"safe", [](Run&, In input, Args) { return input; }},
      {"string", [](Run& run, In input, Args) { return Value(run.text_of(input)); }},
      {"title", [](Run& run, In input, Args) { return Value(jinja_title(run.text_of(input))); }},
      {"tojson", tojson},
      {"trim", trim},
      {"upper", [](Run& run, In input, Args) { return Value(upper(run.text_of(input))); }},
  };
  return table;
}

Filter find_filter(const std::string& name) {
  for (const FilterTable* table : {&text_filters(), &list_filters()})
    if (const auto it = table->find(name); it != table->end()) return it->second;
  return nullptr;
}

}  // namespace shoal::text::jinja
