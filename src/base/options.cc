// SPDX-License-Identifier: Apache-2.0
#include "base/options.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/json_file.h"

namespace shoal {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  return text;
}

std::string joined(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

std::string number_text(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  return {buffer, end};
}

bool whole(const Option& option) { return !std::holds_alternative<double*>(option.field); }
bool contains(const std::vector<std::string>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}
// In any case; null if it is not among them.
const std::string* find_word(const std::vector<std::string>& words, std::string_view word) {
  const auto lower = [](char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  const auto found = std::find_if(words.begin(), words.end(), [&](const std::string& one) {
    return std::ranges::equal(one, word, {}, lower, lower);
  });
  return found == words.end() ? nullptr : &*found;
}

std::string bound_text(const Option& option, double bound) {
  return whole(option) ? std::to_string(static_cast<int64_t>(bound)) : number_text(bound);
}

std::string bounds_text(const Option& option) {
  std::string text = option.power_of_two ? ", a power of two," : "";
  if (std::isfinite(option.min) && std::isfinite(option.max)) {
    text += " from " + bound_text(option, option.min) + " to " + bound_text(option, option.max);
  } else if (std::isfinite(option.min)) {
    text += " of at least " + bound_text(option, option.min);
  }
  return text;
}

std::optional<int64_t> parse_int(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

std::optional<double> parse_double(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return {};
  return value;
}

std::optional<bool> parse_bool(std::string_view text) {
  const std::string word = lower(text);
  if (contains({"true", "yes", "on", "1"}, word)) return true;
  if (contains({"false", "no", "off", "0"}, word)) return false;
  return {};
}

// The values nearest to one that is out of bounds.
std::string nearest_text(const Option& option, double value) {
  const double inside = std::clamp(value, option.min, option.max);
  if (!option.power_of_two || inside != value) return "; nearest: " + bound_text(option, inside);
  const double below = std::exp2(std::floor(std::log2(inside)));
  return "; nearest: " + bound_text(option, below) + " or " + bound_text(option, 2 * below);
}

// One attempt to set a field: the text as given, and what is said if it fails.
struct Attempt {
  const Option& option;
  std::string shown;  // value and origin

  std::string wrong(const std::string& nearest = "") const {
    return option.name + " is " + shown + ", must be " + rule_text(option) + nearest;
  }
  // Checks the bounds of a parsed number; returns what is wrong with it.
  std::optional<std::string> out_of_bounds(double value) const {
    const bool power = !option.power_of_two || (value >= 1 && std::exp2(std::floor(std::log2(value))) == value);
    if (value >= option.min && value <= option.max && power) return {};
    return wrong(nearest_text(option, value));
  }
  std::optional<std::string> set(int64_t* field, std::string_view text) const {
    const auto value = parse_int(text);
    if (!value) return wrong();
    if (auto problem = out_of_bounds(static_cast<double>(*value))) return problem;
    *field = *value;
    return {};
  }
  std::optional<std::string> set(std::optional<int64_t>* field, std::string_view text) const {
    if (option.absent && parse_int(text) == option.absent) {
      field->reset();
      return {};
    }
    int64_t value = 0;
    if (auto problem = set(&value, text)) return problem;
    *field = value;
    return {};
  }
  std::optional<std::string> set(double* field, std::string_view text) const {
    const auto value = parse_double(text);
    if (!value) return wrong();
    if (auto problem = out_of_bounds(*value)) return problem;
    *field = *value;
    return {};
  }
  std::optional<std::string> set(bool* field, std::string_view text) const {
    const auto value = parse_bool(text);
    if (!value) return wrong();
    *field = *value;
    return {};
  }
  std::optional<std::string> set(std::string* field, std::string_view text) const {
    if (option.choices.empty()) {
      *field = text;
      return {};
    }
    if (const std::string* word = find_word(option.choices, text)) {
      *field = *word;
      return {};
    }
    if (find_word(option.planned, text))
      return option.name + " is " + shown + ": not built yet, must be " + rule_text(option);
    return wrong();
  }
  std::optional<std::string> set(std::vector<int64_t>* field, std::string_view text) const {
    if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
    std::vector<std::string> items;
    while (!trimmed(text).empty()) {
      const size_t comma = std::min(text.find(','), text.size());
      items.emplace_back(trimmed(text.substr(0, comma)));
      text.remove_prefix(std::min(comma + 1, text.size()));
    }
    return set(field, items);
  }
  std::optional<std::string> set(std::vector<int64_t>* field, const std::vector<std::string>& items) const {
    std::vector<int64_t> values;
    for (const std::string& item : items) {
      int64_t value = 0;
      if (auto problem = set(&value, trimmed(item))) return problem;
      values.push_back(value);
    }
    *field = std::move(values);
    return {};
  }
};

// The part after the last dot.
std::string_view leaf(std::string_view path) { return path.substr(path.rfind('.') + 1); }
std::string_view section(std::string_view path) { return path.substr(0, path.size() - leaf(path).size()); }

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::string flag_of(std::string_view spelling) {
  std::string flag = canonical_spelling(spelling);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return "--" + flag;
}

}  // namespace

std::string value_text(const Option& option) {
  return std::visit(
      Overloaded{[](const int64_t* field) { return std::to_string(*field); },
                 [](const double* field) { return number_text(*field); },
                 [](const bool* field) { return std::string(*field ? "true" : "false"); },
                 [](const std::string* field) { return *field; },
                 [](const std::optional<int64_t>* field) { return *field ? std::to_string(**field) : std::string(); },
                 [](const std::vector<int64_t>* field) {
                   std::vector<std::string> items;
                   for (const int64_t item : *field) items.push_back(std::to_string(item));
                   return items.empty() ? std::string() : "[" + joined(items, ", ") + "]";
                 }},
      option.field);
}

std::string rule_text(const Option& option) {
  const std::string bounds = bounds_text(option);
  return std::visit(Overloaded{[&](const int64_t*) { return "a whole number" + bounds; },
                               [&](const double*) { return "a number" + bounds; },
                               [&](const bool*) { return std::string("true or false"); },
                               [&](const std::string*) {
                                 if (option.choices.empty()) return std::string("a word");
                                 return (option.choices.size() > 1 ? "one of " : "") + joined(option.choices, ", ");
                               },
                               [&](const std::optional<int64_t>*) {
                                 return "a whole number" + bounds +
                                        (option.absent ? ", or " + std::to_string(*option.absent) + " for none" : "");
                               },
                               [&](const std::vector<int64_t>*) { return "a list of whole numbers" + bounds; }},
                    option.field);
}

std::string flag_text(const Option& option) {
  std::vector<std::string> flags;
  if (!option.aliases.empty() && option.aliases[0].find('.') == std::string::npos) {
    flags.push_back(flag_of(option.aliases[0]));
  }
  flags.push_back(flag_of(option.name));
  return joined(flags, ", ");
}

std::string variable_text(const Option& option) { return "SHOAL_" + upper(canonical_spelling(option.name)); }

bool takes_value(const Option& option) { return !std::holds_alternative<bool*>(option.field); }

std::optional<std::string> assign(const Option& option, std::string_view text, const std::string& origin) {
  const Attempt attempt{option, "'" + printable(text) + "' (" + origin + ")"};
  return std::visit([&](auto* field) { return attempt.set(field, trimmed(text)); }, option.field);
}

std::optional<std::string> assign(const Option& option, const std::vector<std::string>& items,
                                  const std::string& origin) {
  const Attempt attempt{option, "[" + printable(joined(items, ", ")) + "] (" + origin + ")"};
  if (auto* const* list = std::get_if<std::vector<int64_t>*>(&option.field)) return attempt.set(*list, items);
  return attempt.wrong();
}

std::string canonical_spelling(std::string_view spelling) {
  std::string result = lower(spelling);
  for (char& c : result) {
    if (c == '-' || c == '.') c = '_';
  }
  return result;
}

OptionTable::OptionTable(std::vector<Option> rows) : rows_(std::move(rows)) {
  for (size_t i = 0; i < rows_.size(); ++i) {
    by_path_.emplace(rows_[i].name, i);
    std::vector<std::string> spellings = rows_[i].aliases;
    spellings.push_back(rows_[i].name);
    for (const std::string& spelling : spellings) {
      if (spelling.find('.') != std::string::npos) by_path_.emplace(spelling, i);
      const auto [at, added] = by_spelling_.emplace(canonical_spelling(spelling), i);
      if (!added && at->second != i) check_failed(__FILE__, __LINE__, "two options are spelled " + spelling);
    }
  }
}

const Option* OptionTable::find_path(std::string_view path) const {
  const auto at = by_path_.find(path);
  return at == by_path_.end() ? nullptr : &rows_[at->second];
}

const Option* OptionTable::find_spelling(std::string_view spelling) const {
  const auto at = by_spelling_.find(canonical_spelling(spelling));
  return at == by_spelling_.end() ? nullptr : &rows_[at->second];
}

bool OptionTable::is_section(std::string_view path) const {
  const std::string prefix = std::string(path) + ".";
  const auto at = by_path_.lower_bound(prefix);
  return at != by_path_.end() && at->first.starts_with(prefix);
}

std::string OptionTable::nearest_path(std::string_view path, const std::vector<std::string>& other_paths) const {
  std::vector<KnownWord> known;
  const auto add = [&](const std::string& spelling, const std::string& name) {
    known.push_back({std::string(leaf(spelling)), name, section(name) == section(path) ? 0 : 1});
  };
  for (const Option& row : rows_) {
    add(row.name, row.name);
    for (const std::string& alias : row.aliases) add(alias, row.name);
  }
  for (const std::string& other : other_paths) add(other, other);
  return nearest_word(leaf(path), known);
}

std::string OptionTable::nearest_flag(std::string_view flag, const std::vector<std::string>& other_flags) const {
  std::vector<KnownWord> known;
  for (const std::string& other : other_flags) known.push_back({other, other});
  for (const auto& [spelling, row] : by_spelling_) known.push_back({flag_of(spelling), flag_of(spelling)});
  return nearest_word(flag, known);
}

std::string OptionTable::nearest_variable(std::string_view variable) const {
  std::vector<KnownWord> known;
  for (const auto& [spelling, row] : by_spelling_)
    known.push_back({"SHOAL_" + upper(spelling), "SHOAL_" + upper(spelling)});
  return nearest_word(variable, known);
}

std::string options_help(const OptionTable& table) {
  std::string text;
  for (const Option& row : table.rows()) {
    const std::string value = value_text(row);
    text += "  " + flag_text(row) + "\n      " + row.help + "\n      " + rule_text(row) +
            (value.empty() ? "" : "; default " + value) + "\n";
  }
  return text;
}

std::string options_markdown(const OptionTable& table) {
  std::string text = "| key | flags | value | default | meaning |\n|---|---|---|---|---|\n";
  for (const Option& row : table.rows()) {
    text += "| `" + row.name + "` | `" + flag_text(row) + "` | " + rule_text(row) + " | " + value_text(row) + " | " +
            row.help + " |\n";
  }
  return text;
}

}  // namespace shoal
