// SPDX-License-Identifier: Apache-2.0
// Names of metrics in texts, for the tests that hold files and what is emitted together.
#pragma once

#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <stdexcept>
#include <string>

namespace shoal {

inline std::string contents(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// What the pattern's first group matched.
inline std::set<std::string> matches(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::set<std::string> found;
  for (std::sregex_iterator match(text.begin(), text.end(), regex), end; match != end; ++match)
    found.insert((*match)[1]);
  return found;
}

// Of a GET /metrics text.
inline std::set<std::string> metrics_in(const std::string& text) { return matches(text, "# TYPE ([^ ]+) "); }
// These, and the series that histograms are made of.
inline std::set<std::string> series_in(const std::string& text) {
  std::set<std::string> names = metrics_in(text);
  names.merge(matches(text, "\n([a-z_:0-9]+)[{ ]"));
  return names;
}

// In expressions of dashboards and alerts.
inline std::set<std::string> names_used_in(const std::string& text) {
  return matches(text, "\\b((?:shoal_|vllm:|http_request|process_)[a-z0-9_:]+)");
}

}  // namespace shoal
