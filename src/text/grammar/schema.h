// SPDX-License-Identifier: Apache-2.0
// JSON Schemas as what they ask of a value: a conjunction of schemas becomes alternatives without anyOf, oneOf, allOf and $ref, each of
// which says what it asks by type. Parts of arrays and objects stay conjunctions, to be read when their turn comes, so that a
// recursive schema is read once.
// Invariants: what is not supported, or wrong, is an Error with keyword and JSON pointer; work is bounded.
// Not here: rules of a grammar (schema_rules.h).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "text/grammar/automaton.h"
#include "text/grammar/number_range.h"

namespace shoal::text {

using SchemaJson = nlohmann::ordered_json;

// Schemas followed to come to one without reading anything of the value: $ref, allOf, anyOf.
struct SchemaTrail {
  const SchemaJson* schema;
  std::shared_ptr<const SchemaTrail> before;
  int length;
};

struct SchemaRef {
  const SchemaJson* schema = nullptr;
  std::string pointer;  // "#/properties/a"
  std::shared_ptr<const SchemaTrail> trail;
};

using Conjunction = std::vector<SchemaRef>;

enum TypeBit : uint8_t {
  kNullBit = 1,
  kBooleanBit = 2,
  kIntegerBit = 4,
  kFractionBit = 8,  // numbers that are no integers
  kStringBit = 16,
  kArrayBit = 32,
  kObjectBit = 64,
  kAnyType = 127,
};

// What one alternative asks.
struct ValueSchema {
  uint8_t types = kAnyType;
  std::optional<std::vector<SchemaJson>> values;  // enum, const
  NumberRange number;
  int32_t min_length = 0, max_length = kUnbounded;
  struct Text {
    std::string text, pointer;
  };
  std::vector<Text> patterns, formats;
  int32_t min_items = 0, max_items = kUnbounded;
  std::vector<SchemaRef> array_parts;  // schemas with items or prefixItems
  int32_t min_properties = 0, max_properties = kUnbounded;
  std::vector<SchemaRef> object_parts;  // schemas with properties, patternProperties, additionalProperties
  std::vector<SchemaRef> property_names;
  std::vector<std::string> required;
  bool closed = false;  // unevaluatedProperties: false
  std::string pointer;  // of the first schema

  std::set<const SchemaJson*> read;
};

class SchemaReader {
 public:
  explicit SchemaReader(const SchemaJson& root) : root_(root) {}

  SchemaRef root() const { return {&root_, "#", nullptr}; }
  std::vector<ValueSchema> alternatives(const Conjunction& conjunction);
  // No value satisfies both; false where that is not known.
  bool disjoint(const Conjunction& a, const Conjunction& b, int depth = 0);

 private:
  // What is still to be read: schemas that all hold, and lists of which one each holds.
  struct Todo {
    Conjunction all;
    std::vector<std::vector<SchemaRef>> one_of_each;
  };
  void flatten(Todo todo, ValueSchema so_far, std::vector<ValueSchema>& out);
  bool read(const SchemaRef& at, ValueSchema& value, Todo& todo);
  std::vector<SchemaRef> one_of(const SchemaRef& at, const SchemaJson& list, Conjunction& all);
  std::vector<SchemaRef> choices(const SchemaRef& at, const std::string& keyword, const SchemaJson& list) const;
  SchemaRef resolve(const SchemaRef& at, const SchemaJson& reference) const;
  SchemaRef follow(const SchemaRef& from, const SchemaJson& to, std::string pointer) const;
  const SchemaJson& requiring(const std::string& property);
  bool disjoint(const ValueSchema& a, const ValueSchema& b, int depth);
  bool disjoint_objects(const ValueSchema& a, const ValueSchema& b, int depth);

  const SchemaJson& root_;
  std::deque<SchemaJson> made_;  // schemas that stand in no text
  int64_t steps_ = 0;
};

// "#/a~1b: what".
[[noreturn]] void schema_error(ErrorKind kind, const std::string& pointer, const std::string& what);
SchemaRef schema_part(const SchemaRef& of, const std::string& keyword);
SchemaRef schema_part(const SchemaRef& of, const std::string& keyword, const std::string& name);
SchemaRef schema_part(const SchemaRef& of, const std::string& keyword, size_t index);
uint8_t type_of(const SchemaJson& value);

}  // namespace shoal::text
