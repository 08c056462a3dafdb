// SPDX-License-Identifier: Apache-2.0
// Keys of TensorRT-LLM's YAML that are no options here: those without meaning, which are accepted, and those of features not built yet,
// which are refused unless they say what is the case anyway. Not here: keys that are options (engine_config_rows.cc).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace shoal {

struct ReferenceKey {
  std::string_view path;           // one that ends in '*' stands for every key that begins so
  std::string_view feature = {};   // not built yet: what it would do; empty: without meaning here
  std::string_view harmless = {};  // of such a feature: the values, one space between, under which nothing would change

  bool allows(std::string_view value) const;  // whether it is one of the harmless, in any case of letters
};

// The key that covers the path, if any.
const ReferenceKey* find_reference_key(std::string_view path);
// True if some key lies below: "attention_dp_config".
bool is_reference_section(std::string_view path);
// Every key but those with '*'.
std::vector<std::string> reference_paths();

}  // namespace shoal
