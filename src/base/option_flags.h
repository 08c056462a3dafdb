// SPDX-License-Identifier: Apache-2.0
// Splits a command line into the options of a table and the rest, before the command's own parser sees it, so that every option has
// every usual spelling: --tp 4, -tp 4, --tp=4, --tp_size, --tp-size, --tensor-parallel-size, --tensor_parallel_size=4; booleans also
// bare (--adp) and as --no-adp. Not here: the meaning of the rest, and setting fields (base/options.h).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/options.h"

namespace shoal {

// An option from the command line: its name as in YAML (dots nest), the value, and how the flag was written.
struct FlagValue {
  std::string option;
  std::string value;
  std::string spelling;  // such as "--tp"
};

// A flag that the command itself parses. It goes before an option of the same spelling.
struct OwnFlag {
  std::string spelling;  // dashes included
  bool takes_value = true;
};

struct SplitArguments {
  std::vector<FlagValue> flags;
  std::optional<std::string> config_file;  // --config, or --extra_llm_api_options as the reference calls it
  std::vector<std::string> rest;           // for the command's parser; own flags as it spells them
};

// Throws Error that lists every unknown flag, with the nearest known, and every value that is missing. What follows "--" is not looked at.
SplitArguments split_arguments(const std::vector<std::string>& arguments, const OptionTable& table,
                               const std::vector<OwnFlag>& own);

}  // namespace shoal
