// SPDX-License-Identifier: Apache-2.0
#include "model/config_reader.h"

#include <cmath>
#include <limits>

#include "base/error.h"

namespace shoal {

using nlohmann::json;

namespace {

bool is_whole(const json& value) { return value.is_number_integer() || value.is_number_unsigned(); }

std::string shown(const json* value) {
  if (!value) return "is missing";
  std::string text = value->dump();
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  return "is " + text;
}

}  // namespace

ConfigReader::ConfigReader(const json& object, std::string where) : object_(&object), where_(std::move(where)) {
  if (!object.is_object()) throw Error(ErrorKind::kInvalid, where_ + ": not a JSON object");
}

const json* ConfigReader::find(const std::string& key) const {
  const auto it = object_->find(key);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

void ConfigReader::fail(const std::string& key, const std::string& rule) const {
  throw Error(ErrorKind::kInvalid, where_ + ": '" + key + "' " + shown(find(key)) + "; it must be " + rule);
}

bool ConfigReader::has(const std::string& key) const { return find(key) != nullptr; }

int64_t ConfigReader::size(const std::string& key, int64_t at_least) const {
  const json* value = find(key);
  const std::string rule = "a whole number from " + std::to_string(at_least) + " to 2147483647";
  if (!value || !is_whole(*value)) fail(key, rule);
  if (value->is_number_unsigned() && value->get<uint64_t>() > std::numeric_limits<int32_t>::max()) fail(key, rule);
  const int64_t number = value->get<int64_t>();
  if (number < at_least || number > std::numeric_limits<int32_t>::max()) fail(key, rule);
  return number;
}

int64_t ConfigReader::size_or(const std::string& key, int64_t otherwise, int64_t at_least) const {
  return has(key) ? size(key, at_least) : otherwise;
}

double ConfigReader::number(const std::string& key) const {
  const json* value = find(key);
  if (!value || !value->is_number() || !std::isfinite(value->get<double>())) fail(key, "a number");
  return value->get<double>();
}

double ConfigReader::number_or(const std::string& key, double otherwise) const {
  return has(key) ? number(key) : otherwise;
}

bool ConfigReader::flag_or(const std::string& key, bool otherwise) const {
  const json* value = find(key);
  if (!value) return otherwise;
  if (value->is_boolean()) return value->get<bool>();
  if (is_whole(*value)) return value->get<int64_t>() != 0;  // some published files write 0, 1 or 4 for a switch
  fail(key, "true or false");
}

std::string ConfigReader::text_or(const std::string& key, const std::string& otherwise) const {
  const json* value = find(key);
  if (!value) return otherwise;
  if (!value->is_string()) fail(key, "a string");
  return value->get<std::string>();
}

std::vector<int64_t> ConfigReader::sizes_or(const std::string& key, std::vector<int64_t> otherwise) const {
  const json* value = find(key);
  if (!value) return otherwise;
  if (!value->is_array()) fail(key, "a list of whole numbers");
  std::vector<int64_t> result;
  for (const json& item : *value) {
    if (!is_whole(item) || item.get<int64_t>() < 0) fail(key, "a list of whole numbers from 0");
    result.push_back(item.get<int64_t>());
  }
  return result;
}

std::vector<std::string> ConfigReader::texts_or(const std::string& key, std::vector<std::string> otherwise) const {
  const json* value = find(key);
  if (!value) return otherwise;
  if (!value->is_array()) fail(key, "a list of strings");
  std::vector<std::string> result;
  for (const json& item : *value) {
    if (!item.is_string()) fail(key, "a list of strings");
    result.push_back(item.get<std::string>());
  }
  return result;
}

std::vector<int32_t> ConfigReader::ids(const std::string& key) const {
  const json* value = find(key);
  if (!value) return {};
  std::vector<int32_t> result;
  const json list = value->is_array() ? *value : json::array({*value});
  for (const json& item : list) {
    if (!is_whole(item) || item.get<int64_t>() < 0 || item.get<int64_t>() > std::numeric_limits<int32_t>::max())
      fail(key, "a token id or a list of them");
    result.push_back(item.get<int32_t>());
  }
  return result;
}

std::optional<ConfigReader> ConfigReader::object(const std::string& key) const {
  const json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_object()) fail(key, "an object");
  return ConfigReader(*value, where_ + ", " + key);
}

void ConfigReader::require(const std::string& key, const std::string& allowed) const {
  if (text_or(key, allowed) != allowed) fail(key, "\"" + allowed + "\"; nothing else is supported for this model");
}

void ConfigReader::refuse_flag(const std::string& key, const std::string& what) const {
  if (flag_or(key, false)) fail(key, "false; " + what + " is not supported");
}

}  // namespace shoal
