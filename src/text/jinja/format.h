// SPDX-License-Identifier: Apache-2.0
// Values as text, as Python prints them: str(), repr(), and json.dumps(ensure_ascii=False). What nests deeper than kMaxValueDepth
// or grows beyond `max_size` bytes throws std::invalid_argument.
#pragma once

#include <string>

#include "text/jinja/value.h"

namespace shoal::text::jinja {

std::string to_text(const Value& value, size_t max_size);

struct JsonStyle {
  int indent = -1;  // spaces a level; negative: one line
  std::string item_separator = ", ", key_separator = ": ";
  bool sort_keys = false, ensure_ascii = false;
};
std::string to_json(const Value& value, const JsonStyle& style, size_t max_size);

// Python's repr of a float: the shortest digits that read back the same.
std::string float_text(double value);

}  // namespace shoal::text::jinja
