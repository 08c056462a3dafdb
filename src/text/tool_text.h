// SPDX-License-Identifier: Apache-2.0
// Tool calls that are not written as JSON, once they are complete: Python calls and tags.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::text {

struct WrittenCall {
  std::string name;
  nlohmann::ordered_json arguments = nlohmann::ordered_json::object();
};

// [f(a=1, b="x", c=[True, None]), g()]. nullopt: it is nothing of the kind.
std::optional<std::vector<WrittenCall>> parse_python_calls(std::string_view text);
// What stands between <tool_call> and </tool_call>: f <arg_key>k</arg_key> <arg_value>v</arg_value> … (GLM), or <function=f> <parameter=k> v </parameter> …
// </function> (Qwen3-Coder). A value that is JSON and no string is taken as that.
std::optional<WrittenCall> parse_tagged_call(std::string_view text);

}  // namespace shoal::text
