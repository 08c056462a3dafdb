// SPDX-License-Identifier: Apache-2.0
// Runs the built program as a user would and keeps what it said.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace shoal::cli {

struct Outcome {
  int code = -1;  // 128 + signal if it was killed
  std::string out;
  std::string err;
  // Lines of standard error.
  std::vector<std::string> errors() const {
    std::vector<std::string> lines;
    std::istringstream in(err);
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
  }
  // Standard output as one JSON object a line.
  std::vector<nlohmann::json> objects() const {
    std::vector<nlohmann::json> list;
    std::istringstream in(out);
    for (std::string line; std::getline(in, line);) list.push_back(nlohmann::json::parse(line));
    return list;
  }
};

// No shell between: arguments arrive as they are. `environment` is added to this process's.
Outcome run_shoal(const std::vector<std::string>& arguments,
                  const std::map<std::string, std::string>& environment = {});

// A directory of its own for a test, removed with it.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  std::string path(const std::string& name) const { return (directory_ / name).string(); }
  // Writes a file and returns its path.
  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ / name) << text;
    return path(name);
  }

 private:
  std::filesystem::path directory_;
};

inline constexpr const char* kTiny = "models/shoal-tiny";

}  // namespace shoal::cli
