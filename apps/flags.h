// SPDX-License-Identifier: Apache-2.0
// The engine's options on the command line: taken out of argv before CLI11 parses the rest, and shown in each command's --help.
// Not here: what the options mean (engine/engine_config.h).
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/option_flags.h"

namespace shoal {

// `arguments`: argv without the program. The flags of `app`, and of the command that the arguments name, stay in the rest; the rest is for
// parse_rest(). Throws Error with every unknown flag; the engine's are unknown too unless `engine_options`.
SplitArguments split_arguments(const CLI::App& app, const std::vector<std::string>& arguments, bool engine_options);
// Hands the rest to CLI11.
void parse_rest(CLI::App& app, std::vector<std::string> rest);

// Adds --config and every option to the command's --help.
void add_option_help(CLI::App& command);

// The SHOAL_* variables of this process, in the order of their names.
std::vector<std::pair<std::string, std::string>> shoal_environment();

}  // namespace shoal
