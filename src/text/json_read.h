// SPDX-License-Identifier: Apache-2.0
// Reading tokenizer.json with simdjson: members that may be missing or null, with a default. A member of the wrong type is an
// Error that names it. Not here: writing, and small files (nlohmann json reads those).
#pragma once

#include <simdjson.h>

#include <string>
#include <string_view>

#include "base/error.h"

namespace shoal::text {

using Json = simdjson::dom::element;

[[noreturn]] inline void wrong_json(std::string_view where, std::string_view rule) {
  throw Error(ErrorKind::kInvalid, "tokenizer.json: " + std::string(where) + " " + std::string(rule));
}

// True and `out` set if the member is there and not null.
inline bool find_member(Json object, std::string_view name, Json& out) {
  return object.is_object() && object[name].get(out) == simdjson::SUCCESS && !out.is_null();
}

inline std::string_view string_of(Json value, std::string_view where) {
  std::string_view text;
  if (value.get(text) != simdjson::SUCCESS) wrong_json(where, "must be a string");
  return text;
}

inline std::string_view get_string(Json object, std::string_view name, std::string_view fallback = {}) {
  Json member;
  return find_member(object, name, member) ? string_of(member, name) : fallback;
}

inline bool get_bool(Json object, std::string_view name, bool fallback) {
  Json member;
  if (!find_member(object, name, member)) return fallback;
  bool value = false;
  if (member.get(value) != simdjson::SUCCESS) wrong_json(name, "must be true or false");
  return value;
}

inline int64_t get_int(Json object, std::string_view name, int64_t fallback) {
  Json member;
  if (!find_member(object, name, member)) return fallback;
  int64_t value = 0;
  if (member.get(value) != simdjson::SUCCESS) wrong_json(name, "must be an integer");
  return value;
}

inline simdjson::dom::array get_array(Json object, std::string_view name) {
  Json member;
  simdjson::dom::array items;
  if (!find_member(object, name, member) || member.get(items) != simdjson::SUCCESS) wrong_json(name, "must be a list");
  return items;
}

}  // namespace shoal::text
