// SPDX-License-Identifier: Apache-2.0
// Options: one row per field of a config struct serves YAML, environment, flags, --help and the docs. A struct's rows are made by one
// function that binds them to an instance; what the fields hold at that time are the defaults.
// Invariants: every spelling belongs to one row; a failed assignment leaves the field as it was. A table must not outlive its structs.
// Not here: where values come from and which wins (engine/engine_config.h), rules between options.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/nearest.h"

namespace shoal {

// Absent optionals and empty lists mean "not given".
using OptionField =
    std::variant<int64_t*, double*, bool*, std::string*, std::optional<int64_t>*, std::vector<int64_t>*>;

struct Option {
  std::string name;  // as in YAML; a dot nests
  OptionField field;
  std::string help;  // one line, without a full stop
  // Further spellings, as flags and in the environment; one with a dot is a YAML path.
  std::vector<std::string> aliases = {};
  // Bounds of a number, or of each item of a list.
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool power_of_two = false;
  std::optional<int64_t> absent = {};     // number that means "not given", for optionals
  std::vector<std::string> choices = {};  // of a word, in any case; empty: any
  std::vector<std::string> planned = {};  // words understood, but not built yet
};

// What to write and what it means, of one row.
std::string value_text(const Option& option);  // the field's present value: its default, before anything was assigned
std::string rule_text(const Option& option);   // "a whole number from 1 to 65536", "one of auto, float32"
std::string flag_text(const Option& option);   // "--tp, --tensor-parallel-size"
std::string variable_text(const Option& option);  // "SHOAL_TENSOR_PARALLEL_SIZE"
bool takes_value(const Option& option);           // as a flag: all but booleans

// Sets the field from a scalar's text ("[3, 2]" or "3,2" for lists), or returns what is wrong, naming value, `origin` and rule.
std::optional<std::string> assign(const Option& option, std::string_view text, const std::string& origin);
std::optional<std::string> assign(const Option& option, const std::vector<std::string>& items,
                                  const std::string& origin);

// Spellings are equal if they differ only in case, and in '-', '.' and '_'.
std::string canonical_spelling(std::string_view spelling);

class OptionTable {
 public:
  explicit OptionTable(std::vector<Option> rows);

  const std::vector<Option>& rows() const { return rows_; }
  // By YAML path: the row's name, or an alias with a dot.
  const Option* find_path(std::string_view path) const;
  // By any spelling, as flags and the environment use them.
  const Option* find_spelling(std::string_view spelling) const;
  // True if some path lies below: "kv_cache_config".
  bool is_section(std::string_view path) const;

  // For "unknown" errors: the known path (flag, variable) nearest to what was written.
  std::string nearest_path(std::string_view path, const std::vector<std::string>& other_paths) const;
  std::string nearest_flag(std::string_view flag, const std::vector<std::string>& other_flags) const;
  std::string nearest_variable(std::string_view variable) const;

 private:
  std::vector<Option> rows_;
  std::map<std::string, size_t, std::less<>> by_path_;
  std::map<std::string, size_t, std::less<>> by_spelling_;
};

// The rows as text for --help, and as a Markdown table for the docs.
std::string options_help(const OptionTable& table);
std::string options_markdown(const OptionTable& table);

}  // namespace shoal
