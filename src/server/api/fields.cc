// SPDX-License-Identifier: Apache-2.0
#include "server/api/fields.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "base/json_file.h"
#include "server/errors.h"

namespace shoal {
namespace {

constexpr int kMostDepth = 64;
constexpr size_t kShownBytes = 60;

// Nesting is bounded before anything is built: a document of a million brackets must not be a million frames.
void check_depth(std::string_view body) {
  int depth = 0;
  bool in_text = false;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (in_text) {
      if (c == '\\') ++i;
      if (c == '"') in_text = false;
      continue;
    }
    if (c == '"') in_text = true;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (depth > kMostDepth)
      throw ApiError(400, "invalid_json", fmt::format("the body is nested more than {} deep", kMostDepth));
  }
}

std::string range_text(double min, double max) {
  if (max == Fields::kInfinity) return fmt::format("at least {}", min);
  return fmt::format("from {} to {}", min, max);
}

}  // namespace

Json parse_body(std::string_view body) {
  if (body.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    ApiError error(400, "invalid_json", "the request has no body");
    error.hint = "send a JSON object";
    throw error;
  }
  check_depth(body);
  Json value;
  try {
    value = Json::parse(body);
  } catch (const nlohmann::json::parse_error& error) {
    throw ApiError(400, "invalid_json",
                   fmt::format("the body is not JSON: wrong at byte {}, {}", error.byte,
                               error.byte > 0 && error.byte <= body.size()
                                   ? "near " + printable(body.substr(error.byte - 1), kShownBytes / 2)
                                   : "at its end"));
  } catch (const nlohmann::json::exception& error) {
    throw ApiError(400, "invalid_json",
                   fmt::format("the body is not JSON that can be read: {}", printable(error.what())));
  }
  if (!value.is_object()) throw ApiError(400, "invalid_json", "the body must be a JSON object");
  return value;
}

const Json* Fields::any(const std::string& name) {
  known_.insert(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<bool> Fields::boolean(const std::string& name) {
  const Json* value = any(name);
  if (value == nullptr) return {};
  if (!value->is_boolean()) fail(name, "true or false");
  return value->get<bool>();
}

std::optional<int64_t> Fields::integer(const std::string& name, int64_t min, int64_t max) {
  const Json* value = any(name);
  if (value == nullptr) return {};
  constexpr double kExact = 9007199254740992.0;  // 2^53
  int64_t number = 0;
  bool whole = true;
  if (value->is_number_unsigned()) {
    whole = value->get<uint64_t>() <= static_cast<uint64_t>(kMost);
    number = whole ? value->get<int64_t>() : 0;
  } else if (value->is_number_integer()) {
    number = value->get<int64_t>();
  } else {
    const double real = value->is_number() ? value->get<double>() : 0.5;
    whole = std::floor(real) == real && std::abs(real) <= kExact;
    number = whole ? static_cast<int64_t>(real) : 0;
  }
  if (!whole || number < min || number > max)
    fail(name, max == kMost ? fmt::format("a whole number of at least {}", min)
                            : fmt::format("a whole number from {} to {}", min, max));
  return number;
}

std::optional<double> Fields::number(const std::string& name, double min, double max) {
  const Json* value = any(name);
  if (value == nullptr) return {};
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= min && number <= max) || std::isinf(number))
    fail(name, "a number" + (min == -kInfinity ? std::string() : " " + range_text(min, max)));
  return number;
}

std::optional<std::string> Fields::text(const std::string& name) {
  const Json* value = any(name);
  if (value == nullptr) return {};
  if (!value->is_string()) fail(name, "a string");
  return value->get<std::string>();
}

std::vector<std::string> Fields::texts(const std::string& name, size_t most) {
  const Json* value = any(name);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  if (!value->is_array()) fail(name, "a string or a list of strings");
  if (value->size() > most) fail(name, fmt::format("a list of {} strings at most", most));
  std::vector<std::string> list;
  for (const Json& item : *value) {
    if (!item.is_string()) fail(name, "a string or a list of strings");
    list.push_back(item.get<std::string>());
  }
  return list;
}

std::vector<int32_t> Fields::token_ids(const std::string& name, size_t most) {
  const Json* value = any(name);
  if (value == nullptr) return {};
  const std::string rule = fmt::format("a list of {} token ids at most", most);
  if (!value->is_array() || value->size() > most) fail(name, rule);
  std::vector<int32_t> ids;
  for (const Json& item : *value) {
    const bool fits = item.is_number_integer() && item >= 0 && item <= std::numeric_limits<int32_t>::max();
    if (!fits) fail(name, rule);
    ids.push_back(item.get<int32_t>());
  }
  return ids;
}

const Json* Fields::object(const std::string& name) {
  const Json* value = any(name);
  if (value != nullptr && !value->is_object()) fail(name, "an object");
  return value;
}

const Json* Fields::array(const std::string& name) {
  const Json* value = any(name);
  if (value != nullptr && !value->is_array()) fail(name, "a list");
  return value;
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> list;
  for (const auto& [name, value] : object_.items())
    if (!value.is_null() && !known_.contains(name)) list.push_back(path_ + name);
  return list;
}

void Fields::fail(const std::string& name, const std::string& rule, const std::string& code) const {
  const auto found = object_.find(name);
  const std::string shown = found == object_.end()
                                ? "absent"
                                : printable(found->dump(-1, ' ', true, Json::error_handler_t::replace), kShownBytes);
  ApiError error(400, code, fmt::format("{}{} is {}; it must be {}", path_, name, shown, rule));
  error.param = path_ + name;
  throw error;
}

}  // namespace shoal
