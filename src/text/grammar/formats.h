// SPDX-License-Identifier: Apache-2.0
// The `format`s of JSON Schema that are held to, as patterns (pattern.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace shoal::text {

// Empty: the format asks nothing that a string could break (such as "password"). nullopt: not known.
std::optional<std::string> format_pattern(std::string_view format);
// Names of those that are held to, for messages.
std::string known_formats();

}  // namespace shoal::text
