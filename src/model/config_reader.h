// SPDX-License-Identifier: Apache-2.0
// Typed access to one JSON object of a model's config.json. A missing key and null are the same. Every error names
// file, key, value, rule.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace shoal {

class ConfigReader {
 public:
  // `where` is put before every message, such as "models/x/config.json".
  ConfigReader(const nlohmann::json& object, std::string where);

  bool has(const std::string& key) const;
  // Sizes: whole numbers >= 1 (at_least) and < 2^31.
  int64_t size(const std::string& key, int64_t at_least = 1) const;
  int64_t size_or(const std::string& key, int64_t otherwise, int64_t at_least = 1) const;
  double number(const std::string& key) const;
  double number_or(const std::string& key, double otherwise) const;
  bool flag_or(const std::string& key, bool otherwise) const;
  std::string text_or(const std::string& key, const std::string& otherwise) const;
  std::vector<int64_t> sizes_or(const std::string& key,
                                std::vector<int64_t> otherwise) const;  // list of whole numbers >= 0
  std::vector<std::string> texts_or(const std::string& key, std::vector<std::string> otherwise) const;
  std::vector<int32_t> ids(const std::string& key) const;  // one id or a list; absent: empty
  // Reader of a nested object; absent: nullopt.
  std::optional<ConfigReader> object(const std::string& key) const;
  // Throws if the key holds anything but `allowed`.
  void require(const std::string& key, const std::string& allowed) const;
  void refuse_flag(const std::string& key, const std::string& what) const;  // a true value is not supported

  [[noreturn]] void fail(const std::string& key, const std::string& rule) const;
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json* find(const std::string& key) const;
  const nlohmann::json* object_;
  std::string where_;
};

}  // namespace shoal
