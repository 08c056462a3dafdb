// SPDX-License-Identifier: Apache-2.0
#include "base/option_flags.h"

#include <cctype>
#include <utility>

#include "base/error.h"
#include "base/json_file.h"

namespace shoal {
namespace {

constexpr const char* kConfigFlags[] = {"--config", "--extra-llm-api-options"};

std::string without_dashes(const std::string& flag) { return flag.substr(flag.find_first_not_of('-')); }

// "-", "-1" and "-.5" are values, not flags.
bool is_flag(const std::string& argument) {
  const size_t name = argument.find_first_not_of('-');
  return argument.starts_with('-') && name != std::string::npos && name <= 2 &&
         std::isalpha(static_cast<unsigned char>(argument[name]));
}

bool is_boolean(const std::string& text) {
  for (const char* word : {"true", "false", "True", "False", "1", "0", "yes", "no", "on", "off"}) {
    if (text == word) return true;
  }
  return false;
}

class Splitter {
 public:
  Splitter(const std::vector<std::string>& arguments, const OptionTable& table, const std::vector<OwnFlag>& own)
      : arguments_(arguments), table_(table), own_(own) {}

  SplitArguments split() {
    while (at_ < arguments_.size()) {
      const std::string& argument = arguments_[at_++];
      if (argument == "--") {
        result_.rest.insert(result_.rest.end(), arguments_.begin() + static_cast<std::ptrdiff_t>(at_) - 1,
                            arguments_.end());
        break;
      }
      if (is_flag(argument)) {
        flag(argument);
      } else {
        result_.rest.push_back(argument);
      }
    }
    problems_.throw_if_any("the command line cannot be used");
    return std::move(result_);
  }

 private:
  void flag(const std::string& argument) {
    const size_t equals = argument.find('=');
    const std::string spelling = argument.substr(0, equals);
    std::optional<std::string> value;
    if (equals != std::string::npos) value = argument.substr(equals + 1);
    if (const OwnFlag* own = find_own(spelling)) return own_flag(*own, value);
    const std::string name = without_dashes(spelling);
    for (const char* config : kConfigFlags) {
      if (canonical_spelling(name) != canonical_spelling(without_dashes(config))) continue;
      if ((value = value ? value : next_value(spelling, "a file"))) result_.config_file = *value;
      return;
    }
    if (const Option* option = table_.find_spelling(name)) return option_flag(*option, spelling, value);
    const Option* negated =
        canonical_spelling(name).starts_with("no_") ? table_.find_spelling(name.substr(3)) : nullptr;
    if (negated && !takes_value(*negated) && !value) {
      result_.flags.push_back({negated->name, "false", spelling});
      return;
    }
    unknown(spelling);
  }

  // As written, else by spelling: --max_tokens finds --max-tokens. Flags of one letter only as written.
  const OwnFlag* find_own(const std::string& spelling) const {
    for (const OwnFlag& own : own_) {
      if (own.spelling == spelling) return &own;
    }
    for (const OwnFlag& own : own_) {
      const bool is_long = own.spelling.size() > 2 && spelling.starts_with("--");
      if (is_long && canonical_spelling(own.spelling) == canonical_spelling(spelling)) return &own;
    }
    return nullptr;
  }

  void own_flag(const OwnFlag& own, std::optional<std::string> value) {
    if (own.takes_value && !value && at_ < arguments_.size()) value = arguments_[at_++];
    if (!value) return result_.rest.push_back(own.spelling);
    // Joined, so that the command's parser does not take a text like "-x" for a flag.
    if (own.spelling.starts_with("--")) return result_.rest.push_back(own.spelling + "=" + *value);
    result_.rest.push_back(own.spelling);
    result_.rest.push_back(*value);
  }

  void option_flag(const Option& option, const std::string& spelling, std::optional<std::string> value) {
    if (!value && takes_value(option)) value = next_value(spelling, rule_text(option));
    if (!value && !takes_value(option)) {
      const bool given = at_ < arguments_.size() && is_boolean(arguments_[at_]);
      value = given ? arguments_[at_++] : "true";
    }
    if (value) result_.flags.push_back({option.name, *value, spelling});
  }

  std::optional<std::string> next_value(const std::string& spelling, const std::string& rule) {
    if (at_ < arguments_.size() && arguments_[at_] != "--" && !is_flag(arguments_[at_])) return arguments_[at_++];
    problems_.add(spelling + " needs a value: " + rule);
    return {};
  }

  void unknown(const std::string& spelling) {
    std::vector<std::string> others(std::begin(kConfigFlags), std::end(kConfigFlags));
    for (const OwnFlag& own : own_) others.push_back(own.spelling);
    problems_.add("unknown flag " + printable(spelling) + "; the nearest known is " +
                  table_.nearest_flag(spelling, others));
  }

  const std::vector<std::string>& arguments_;
  const OptionTable& table_;
  const std::vector<OwnFlag>& own_;
  size_t at_ = 0;
  SplitArguments result_;
  Problems problems_;
};

}  // namespace

SplitArguments split_arguments(const std::vector<std::string>& arguments, const OptionTable& table,
                               const std::vector<OwnFlag>& own) {
  return Splitter(arguments, table, own).split();
}

}  // namespace shoal
