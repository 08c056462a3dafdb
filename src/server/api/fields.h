// SPDX-License-Identifier: Apache-2.0
// Fields: a JSON object read field by field. A wrong type or value is an ApiError that names the field, the value and the rule; null is as
// good as absent. What nobody asked for is known in the end.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

using Json = nlohmann::ordered_json;

// The body of a request: an object, within limits of depth and size. ApiError(400, "invalid_json") otherwise.
Json parse_body(std::string_view body);

class Fields {
 public:
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  static constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

  // `object` must outlive this. `path` stands before names in errors: "stream_options.".
  explicit Fields(const Json& object, std::string path = {}) : object_(object), path_(std::move(path)) {}

  // Null pointer if absent or null.
  const Json* any(const std::string& name);
  std::optional<bool> boolean(const std::string& name);
  // Numbers such as 3.0 are integers.
  std::optional<int64_t> integer(const std::string& name, int64_t min = 0, int64_t max = kMost);
  std::optional<double> number(const std::string& name, double min = -kInfinity, double max = kInfinity);
  std::optional<std::string> text(const std::string& name);
  // A string, or a list of strings.
  std::vector<std::string> texts(const std::string& name, size_t most);
  std::vector<int32_t> token_ids(const std::string& name, size_t most);
  const Json* object(const std::string& name);
  const Json* array(const std::string& name);

  // Known, and without effect here.
  void ignore(const std::string& name) { known_.insert(name); }
  // Fields of the object that were not asked for, but for those that are null.
  std::vector<std::string> unknown() const;

  [[noreturn]] void fail(const std::string& name, const std::string& rule,
                         const std::string& code = "invalid_value") const;

 private:
  const Json& object_;
  std::string path_;
  std::set<std::string> known_;
};

}  // namespace shoal
