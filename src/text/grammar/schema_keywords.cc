// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/schema_keywords.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/json_file.h"

namespace shoal::text {
namespace {

struct Argument {
  const SchemaRef& at;
  const std::string& keyword;
  const SchemaJson& value;

  std::string pointer() const { return at.pointer + "/" + keyword; }
  [[noreturn]] void wrong(const std::string& rule) const {
    schema_error(ErrorKind::kInvalid, pointer(),
                 fmt::format("is {}; it must be {}", printable(value.dump(), 40), rule));
  }
  [[noreturn]] void unsupported(const std::string& remedy) const {
    schema_error(ErrorKind::kUnsupported, pointer(), fmt::format("\"{}\" is not supported; {}", keyword, remedy));
  }
  int32_t count() const {
    const bool whole =
        value.is_number_unsigned() || (value.is_number_float() && value == std::floor(value.get<double>()));
    if (!whole || value < 0) wrong("an integer of at least 0");
    return static_cast<int32_t>(std::min<double>(value.get<double>(), kUnbounded));
  }
  Decimal number() const {
    if (!value.is_number()) wrong("a number");
    const std::optional<Decimal> decimal = Decimal::parse(value.dump());
    if (!decimal) wrong("a number of at most 400 digits");
    return *decimal;
  }
  std::string text() const {
    if (!value.is_string()) wrong("a string");
    return value.get<std::string>();
  }
  void list() const {
    if (!value.is_array()) wrong("a list");
  }
  void object() const {
    if (!value.is_object()) wrong("an object");
  }
};

const std::map<std::string, uint8_t> kTypes = {
    {"null", kNullBit},     {"boolean", kBooleanBit}, {"integer", kIntegerBit}, {"number", kIntegerBit | kFractionBit},
    {"string", kStringBit}, {"array", kArrayBit},     {"object", kObjectBit}};

void read_type(const Argument& a, ValueSchema& value) {
  uint8_t types = 0;
  const auto add = [&](const SchemaJson& name) {
    const auto found = name.is_string() ? kTypes.find(name.get<std::string>()) : kTypes.end();
    if (found == kTypes.end()) a.wrong("null, boolean, integer, number, string, array or object, or a list of these");
    types |= found->second;
  };
  if (a.value.is_array()) {
    for (const SchemaJson& name : a.value) add(name);
  } else {
    add(a.value);
  }
  value.types &= types;
}

void keep_values(std::vector<SchemaJson> values, ValueSchema& value) {
  if (value.values)
    std::erase_if(values, [&](const SchemaJson& one) {
      return std::find(value.values->begin(), value.values->end(), one) == value.values->end();
    });
  value.values = std::move(values);
}

void read_enum(const Argument& a, ValueSchema& value) {
  a.list();
  keep_values(std::vector<SchemaJson>(a.value.begin(), a.value.end()), value);
}

void read_bound(const Argument& a, ValueSchema& value, bool low, bool exclusive) {
  // Draft 4 wrote exclusiveMinimum: true beside minimum.
  const std::string flag = low ? "exclusiveMinimum" : "exclusiveMaximum";
  if (exclusive && a.value.is_boolean()) return;
  if (!exclusive && a.at.schema->contains(flag) && a.at.schema->at(flag) == true) exclusive = true;
  const NumberRange::Bound bound{a.number(), exclusive};
  std::optional<NumberRange::Bound>& known = low ? value.number.low : value.number.high;
  const bool narrower = !known || (low ? bound.value > known->value : bound.value < known->value) ||
                        (bound.value == known->value && exclusive);
  if (narrower) known = bound;
}

// Integers, and the powers of ten below one.
void read_multiple_of(const Argument& a, ValueSchema& value) {
  constexpr int64_t kMost = 10'000;
  const Decimal number = a.number();
  if (number.negative || number.is_zero()) a.wrong("above 0");
  if (number.is_integer() && number.whole.size() <= 5 && std::stoll(number.whole) <= kMost) {
    value.number.multiple_of = std::lcm(value.number.multiple_of, std::stoll(number.whole));
    if (value.number.multiple_of > kMost) a.unsupported("with the others it asks for multiples above 10000; use enum");
    value.types &= static_cast<uint8_t>(~kFractionBit);
    return;
  }
  const bool power_of_ten = number.whole.empty() && number.fraction.size() <= 20 && number.fraction.back() == '1' &&
                            number.fraction.find_first_not_of('0') == number.fraction.size() - 1;
  if (!power_of_ten) a.unsupported("what does: an integer up to 10000, or a power of ten such as 0.01");
  const auto digits = static_cast<int32_t>(number.fraction.size());
  value.number.fraction_digits = std::min(value.number.fraction_digits.value_or(digits), digits);
}

void read_required(const Argument& a, ValueSchema& value) {
  if (a.value.is_boolean()) return;  // draft 3 wrote it beside the property
  a.list();
  for (const SchemaJson& name : a.value) {
    if (!name.is_string()) a.wrong("a list of property names");
    const auto text = name.get<std::string>();
    if (std::find(value.required.begin(), value.required.end(), text) == value.required.end())
      value.required.push_back(text);
  }
}

void read_text(const Argument& a, ValueSchema& value) {
  (a.keyword == "pattern" ? value.patterns : value.formats).push_back({a.text(), a.pointer()});
}

void read_count(const Argument& a, ValueSchema& value) {
  const int32_t count = a.count();
  const auto raise = [&](int32_t& least) { least = std::max(least, count); };
  const auto lower = [&](int32_t& most) { most = std::min(most, count); };
  if (a.keyword == "minLength") raise(value.min_length);
  if (a.keyword == "maxLength") lower(value.max_length);
  if (a.keyword == "minItems") raise(value.min_items);
  if (a.keyword == "maxItems") lower(value.max_items);
  if (a.keyword == "minProperties") raise(value.min_properties);
  if (a.keyword == "maxProperties") lower(value.max_properties);
}

void read_items(const Argument& a, ValueSchema&) {
  if (a.keyword == "prefixItems") a.list();
}

using Read = void (*)(const Argument&, ValueSchema&);
const std::map<std::string, Read> kKeywords = {
    {"type", read_type},
    {"enum", read_enum},
    {"const", [](const Argument& a, ValueSchema& v) { keep_values({a.value}, v); }},
    {"minimum", [](const Argument& a, ValueSchema& v) { read_bound(a, v, true, false); }},
    {"maximum", [](const Argument& a, ValueSchema& v) { read_bound(a, v, false, false); }},
    {"exclusiveMinimum", [](const Argument& a, ValueSchema& v) { read_bound(a, v, true, true); }},
    {"exclusiveMaximum", [](const Argument& a, ValueSchema& v) { read_bound(a, v, false, true); }},
    {"multipleOf", read_multiple_of},
    {"minLength", read_count},
    {"maxLength", read_count},
    {"pattern", read_text},
    {"format", read_text},
    {"minItems", read_count},
    {"maxItems", read_count},
    {"prefixItems", read_items},
    {"items", read_items},
    {"minProperties", read_count},
    {"maxProperties", read_count},
    {"properties", [](const Argument& a, ValueSchema&) { a.object(); }},
    {"patternProperties", [](const Argument& a, ValueSchema&) { a.object(); }},
    {"required", read_required},
    {"propertyNames",
     [](const Argument& a, ValueSchema& v) { v.property_names.push_back(schema_part(a.at, "propertyNames")); }},
    {"unevaluatedProperties",
     [](const Argument& a, ValueSchema& v) {
       if (a.value.is_boolean())
         v.closed |= !a.value.get<bool>();
       else
         a.unsupported("what does: false, or additionalProperties");
     }},
    {"uniqueItems",
     [](const Argument& a, ValueSchema&) {
       if (a.value != false) a.unsupported("a grammar cannot compare items; leave it out and check the answer");
     }},
};

const std::map<std::string, const char*> kRefused = {
    {"not", "say what the value may be, with enum, pattern or anyOf"},
    {"if", "write the cases as anyOf"},
    {"then", "write the cases as anyOf"},
    {"else", "write the cases as anyOf"},
    {"contains", "use items, or prefixItems"},
    {"minContains", "use minItems"},
    {"maxContains", "use maxItems"},
    {"dependentRequired", "write the cases as anyOf, each with its required"},
    {"dependentSchemas", "write the cases as anyOf"},
    {"dependencies", "write the cases as anyOf, each with its required"},
    {"unevaluatedItems", "use items: false behind prefixItems"},
    {"$dynamicRef", "use $ref"},
    {"$recursiveRef", "use $ref"},
};

bool any_of(const SchemaJson& schema, std::initializer_list<const char*> keywords) {
  return std::any_of(keywords.begin(), keywords.end(), [&](const char* keyword) { return schema.contains(keyword); });
}

}  // namespace

void read_keywords(const SchemaRef& at, ValueSchema& value) {
  for (const auto& [keyword, argument] : at.schema->items()) {
    const Argument a{at, keyword, argument};
    if (const auto refused = kRefused.find(keyword); refused != kRefused.end()) a.unsupported(refused->second);
    if (const auto known = kKeywords.find(keyword); known != kKeywords.end()) known->second(a, value);
  }
  if (any_of(*at.schema, {"items", "prefixItems"})) value.array_parts.push_back(at);
  if (any_of(*at.schema, {"properties", "patternProperties", "additionalProperties"})) value.object_parts.push_back(at);
}

}  // namespace shoal::text
