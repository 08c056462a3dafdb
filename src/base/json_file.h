// SPDX-License-Identifier: Apache-2.0
// JSON from files that may be hostile: bounded in size and depth, errors as one line "name:line: what". `JsonEvents`
// reads without building a document, for formats whose structure is known. Not here: writing JSON; what the keys mean.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace shoal {

struct JsonLimits {
  int64_t bytes = int64_t{64} << 20;
  int depth = 128;           // of nested arrays and objects
  bool unique_keys = false;  // else the last of equal keys wins
};

// `name` stands for the text in errors.
nlohmann::json parse_json(std::string_view text, const std::string& name, const JsonLimits& limits = {});
// The whole file. Error: the path, and that it cannot be read.
std::string read_text_file(const std::filesystem::path& path);
nlohmann::json read_json_file(const std::filesystem::path& path, const JsonLimits& limits = {});

// Text from a file, fit for an error line: control and invalid bytes as '?', cut to `max_bytes`.
std::string printable(std::string_view text, size_t max_bytes = 120);

// Receives a text's parts in order. Derived classes keep what they need and call fail() at what they refuse.
class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  // Throws Error at the first syntax error and whatever the callbacks throw.
  void run(std::string_view text, const std::string& name);

  bool parse_error(size_t position, const std::string& last_token, const nlohmann::json::exception& error) final;
  bool binary(nlohmann::json::binary_t&) final { fail("binary value"); }

 protected:
  // Throws Error "place: what", at the place read so far.
  [[noreturn]] void fail(const std::string& what) const;
  // "name:line" unless a derived class knows better.
  virtual std::string place() const;
  const std::string& name() const { return name_; }

 private:
  std::string_view text_;
  std::string name_;
  size_t position_ = 0;  // bytes read so far
};

}  // namespace shoal
