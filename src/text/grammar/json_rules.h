// SPDX-License-Identifier: Apache-2.0
// Rules for JSON texts (RFC 8259): any value, strings with every escape, objects and arrays from the rules of their parts.
// Deliberate bounds, so that a model cannot run on for ever: between two tokens of JSON at most 8 blanks, two line ends and 80 blanks of
// indentation; numbers of at most 19 digits before and 20 behind the point, with exponents that a double holds.
// Not here: what a schema asks for (schema.h), sets of strings as automata (byte_dfa.h).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/grammar/automaton.h"

namespace shoal::text {

// Rules that every JSON grammar has, added to an empty automaton: the same in each, so that their token tables are shared.
struct JsonRules {
  int32_t blanks = kNothing;  // may read nothing
  int32_t value = kNothing, object = kNothing, array = kNothing;
  int32_t string = kNothing, number = kNothing, integer = kNothing, boolean = kNothing, null = kNothing;
  int32_t string_start = kNothing;  // node, for strings of other lengths
  int32_t node_count = 0, rule_count = 0;

  explicit JsonRules(Automaton& automaton);
};

struct ArrayRule {
  std::vector<int32_t> prefix;  // rules of the first items
  int32_t items = kNothing;     // of those behind them; kNothing: there are none
  int32_t need = 0, room = kUnbounded;
};

struct ObjectRule {
  struct Property {
    int32_t rule;  // "name": value
    bool required;
  };
  std::vector<Property> properties;     // in this order
  std::vector<int32_t> others;          // rules of further properties, behind those
  int32_t need = 0, room = kUnbounded;  // of the further ones
};

// What adds rules for values to an automaton that begins with `json`.
class JsonBuilder {
 public:
  JsonBuilder(Automaton& automaton, const JsonRules& json) : automaton_(automaton), json_(json) {}

  int32_t string(int32_t need, int32_t room);
  // Exactly this value, its strings as nlohmann json writes them, with blanks allowed between its tokens.
  int32_t constant(const nlohmann::ordered_json& value);
  int32_t one_of(const std::vector<nlohmann::ordered_json>& values);
  int32_t array(const ArrayRule& array);
  int32_t object(const ObjectRule& object);
  int32_t property(std::string_view name, int32_t value);
  int32_t property_of(int32_t key, int32_t value);
  // Blanks, then the value: what a whole text is.
  int32_t text(int32_t value);
  // A node to come from to `node` with blanks between.
  int32_t after_blanks(int32_t node);

 private:
  int32_t add_end();
  int32_t scalars(const std::vector<std::string>& texts);

  Automaton& automaton_;
  const JsonRules& json_;
};

// As it stands in JSON, with quotes.
std::string json_string(std::string_view text);

}  // namespace shoal::text
