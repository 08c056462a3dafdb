// SPDX-License-Identifier: Apache-2.0
// YAML from files that may be hostile, as a tree that remembers lines and keeps keys given twice, in the file's order. Bounded in size
// and depth; aliases and several documents are refused; errors are one line, "name:line: what". Not here: what the keys mean.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

struct YamlEntry;

struct YamlNode {
  enum class Kind : uint8_t { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  int line = 1;
  std::string text;                // kScalar, as written
  std::vector<YamlNode> items;     // kList
  std::vector<YamlEntry> entries;  // kMap

  // Null, or a list or map without anything in it.
  bool empty() const { return kind != Kind::kScalar && items.empty() && entries.empty(); }
};

struct YamlEntry {
  std::string key;
  int line = 1;
  YamlNode value;
};

struct YamlLimits {
  int64_t bytes = int64_t{1} << 20;
  int depth = 32;
};

// `name` stands for the text in errors. An empty text is a null.
YamlNode parse_yaml(std::string_view text, const std::string& name, const YamlLimits& limits = {});
YamlNode read_yaml_file(const std::filesystem::path& path, const YamlLimits& limits = {});

}  // namespace shoal
