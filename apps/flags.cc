// SPDX-License-Identifier: Apache-2.0
#include "apps/flags.h"

#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "engine/engine_config.h"

namespace shoal {
namespace {

void add_own_flags(const CLI::App& app, std::vector<OwnFlag>& own) {
  for (const CLI::Option* option : app.get_options()) {
    const bool takes_value = option->get_items_expected_max() > 0;
    for (const std::string& name : option->get_lnames()) own.push_back({"--" + name, takes_value});
    for (const std::string& name : option->get_snames()) own.push_back({"-" + name, takes_value});
  }
}

// The command of `app` by that name, if there is one.
const CLI::App* command_named(const CLI::App& app, const std::string& name) {
  const auto found = app.get_subcommands([&](const CLI::App* command) { return command->check_name(name); });
  return found.empty() ? nullptr : found.front();
}

}  // namespace

SplitArguments split_arguments(const CLI::App& app, const std::vector<std::string>& arguments, bool engine_options) {
  std::vector<OwnFlag> own;
  add_own_flags(app, own);
  const CLI::App* command = &app;
  for (const std::string& argument : arguments) {
    const CLI::App* next = command_named(*command, argument);
    if (next == nullptr) continue;
    command = next;
    add_own_flags(*command, own);
  }
  EngineConfig defaults;
  const OptionTable table = engine_options ? shoal::engine_options(defaults) : OptionTable({});
  SplitArguments split = split_arguments(arguments, table, own);
  if (split.config_file && !engine_options)
    throw Error(ErrorKind::kInvalid, "this command takes no --config; see --help");
  return split;
}

void parse_rest(CLI::App& app, std::vector<std::string> rest) {
  // CLI11 takes them from the back.
  std::reverse(rest.begin(), rest.end());
  app.parse(std::move(rest));
}

void add_option_help(CLI::App& command) {
  EngineConfig defaults;
  command.footer(
      "Layout and engine; each also as a key of --config FILE and as a variable SHOAL_NAME\n"
      "(defaults < file < variables < flags):\n"
      "  --config, --extra_llm_api_options\n      YAML file of these keys\n" +
      options_help(engine_options(defaults)));
}

std::vector<std::pair<std::string, std::string>> shoal_environment() {
  std::vector<std::pair<std::string, std::string>> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    if (text.starts_with("SHOAL_")) {
      variables.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    } else if (text.starts_with("EXPERT_STATISTIC_")) {  // the reference's own names
      variables.emplace_back("SHOAL_" + std::string(text.substr(0, equals)), text.substr(equals + 1));
    }
  }
  std::sort(variables.begin(), variables.end());
  return variables;
}

}  // namespace shoal
