// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/schema.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json_file.h"
#include "text/grammar/schema_keywords.h"

namespace shoal::text {
namespace {

constexpr int64_t kMaxSteps = 100'000;
constexpr size_t kMaxLists = 100;           // of anyOf and oneOf that hold together
constexpr size_t kMaxAlternatives = 2'000;  // of one value
constexpr int kMaxTrail = 200;

std::string escaped(const std::string& name) {
  std::string text;
  for (const char c : name) {
    if (c == '~')
      text += "~0";
    else if (c == '/')
      text += "~1";
    else
      text += c;
  }
  return text;
}

// Of a URI fragment: %41 is A.
std::string percent_decoded(const std::string& text) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && std::isxdigit(static_cast<unsigned char>(text[i + 1])) != 0 &&
        std::isxdigit(static_cast<unsigned char>(text[i + 2])) != 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

void schema_error(ErrorKind kind, const std::string& pointer, const std::string& what) {
  throw Error(kind, pointer + ": " + what);
}

SchemaRef schema_part(const SchemaRef& of, const std::string& keyword) {
  return {&of.schema->at(keyword), of.pointer + "/" + escaped(keyword), nullptr};
}
SchemaRef schema_part(const SchemaRef& of, const std::string& keyword, const std::string& name) {
  return {&of.schema->at(keyword).at(name), of.pointer + "/" + escaped(keyword) + "/" + escaped(name), nullptr};
}
SchemaRef schema_part(const SchemaRef& of, const std::string& keyword, size_t index) {
  return {&of.schema->at(keyword).at(index), fmt::format("{}/{}/{}", of.pointer, keyword, index), nullptr};
}

uint8_t type_of(const SchemaJson& value) {
  if (value.is_null()) return kNullBit;
  if (value.is_boolean()) return kBooleanBit;
  if (value.is_string()) return kStringBit;
  if (value.is_array()) return kArrayBit;
  if (value.is_object()) return kObjectBit;
  const std::optional<Decimal> number = Decimal::parse(value.dump());
  return number && number->is_integer() ? kIntegerBit : kFractionBit;
}

std::vector<ValueSchema> SchemaReader::alternatives(const Conjunction& conjunction) {
  std::vector<ValueSchema> out;
  ValueSchema first;
  if (!conjunction.empty()) first.pointer = conjunction.front().pointer;
  flatten({conjunction, {}}, std::move(first), out);
  return out;
}

void SchemaReader::flatten(Todo todo, ValueSchema so_far, std::vector<ValueSchema>& out) {
  while (!todo.all.empty()) {
    const SchemaRef at = todo.all.back();
    todo.all.pop_back();
    if (++steps_ > kMaxSteps || todo.one_of_each.size() > kMaxLists)
      schema_error(ErrorKind::kLimit, at.pointer,
                   "there are too many combinations of anyOf, allOf and $ref; simplify the schema");
    if (so_far.read.insert(at.schema).second && !read(at, so_far, todo)) return;
  }
  if (so_far.types == 0) return;
  if (todo.one_of_each.empty()) {
    if (out.size() >= kMaxAlternatives)
      schema_error(
          ErrorKind::kLimit, so_far.pointer,
          fmt::format("there are more than {} alternatives for one value; simplify its anyOf", kMaxAlternatives));
    out.push_back(std::move(so_far));
    return;
  }
  const std::vector<SchemaRef> list = std::move(todo.one_of_each.back());
  todo.one_of_each.pop_back();
  for (const SchemaRef& choice : list) flatten({{choice}, todo.one_of_each}, so_far, out);
}

// The keywords of one schema. False: nothing satisfies it.
bool SchemaReader::read(const SchemaRef& at, ValueSchema& value, Todo& todo) {
  const SchemaJson& schema = *at.schema;
  if (schema.is_boolean()) return schema.get<bool>();
  if (!schema.is_object()) schema_error(ErrorKind::kInvalid, at.pointer, "a schema must be an object, true or false");
  read_keywords(at, value);
  for (const auto& [keyword, argument] : schema.items()) {
    if (keyword == "$ref") todo.all.push_back(resolve(at, argument));
    if (keyword == "anyOf") todo.one_of_each.push_back(choices(at, keyword, argument));
    if (keyword == "oneOf") todo.one_of_each.push_back(one_of(at, argument, todo.all));
    if (keyword != "allOf") continue;
    for (const SchemaRef& part : choices(at, keyword, argument)) todo.all.push_back(part);
  }
  return true;
}

std::vector<SchemaRef> SchemaReader::choices(const SchemaRef& at, const std::string& keyword,
                                             const SchemaJson& list) const {
  if (!list.is_array() || list.empty())
    schema_error(ErrorKind::kInvalid, at.pointer + "/" + keyword, "must be a list of schemas, at least one");
  std::vector<SchemaRef> refs;
  for (size_t i = 0; i < list.size(); ++i)
    refs.push_back(follow(at, list[i], fmt::format("{}/{}/{}", at.pointer, keyword, i)));
  return refs;
}

// Exactly one may hold: as anyOf where no two hold together. With OpenAPI's `discriminator`, its property is required.
std::vector<SchemaRef> SchemaReader::one_of(const SchemaRef& at, const SchemaJson& list, Conjunction& all) {
  std::vector<SchemaRef> refs = choices(at, "oneOf", list);
  Conjunction both;
  if (at.schema->contains("discriminator")) {
    const SchemaJson& discriminator = at.schema->at("discriminator");
    if (discriminator.is_object() && discriminator.contains("propertyName") &&
        discriminator["propertyName"].is_string())
      both.push_back({&requiring(discriminator["propertyName"].get<std::string>()), at.pointer, nullptr});
  }
  all.insert(all.end(), both.begin(), both.end());
  const auto with = [&](const SchemaRef& choice) {
    Conjunction conjunction = both;
    conjunction.push_back({choice.schema, choice.pointer, nullptr});
    return conjunction;
  };
  for (size_t i = 0; i < refs.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (!disjoint(with(refs[j]), with(refs[i])))
        schema_error(
            ErrorKind::kUnsupported, at.pointer + "/oneOf",
            fmt::format(
                "choices {} and {} may both hold, which oneOf forbids and a grammar cannot see; use anyOf, or give "
                "each a required property with a const of its own",
                j, i));
  return refs;
}

const SchemaJson& SchemaReader::requiring(const std::string& property) {
  return made_.emplace_back(SchemaJson{{"required", SchemaJson::array({property})}});
}

SchemaRef SchemaReader::follow(const SchemaRef& from, const SchemaJson& to, std::string pointer) const {
  const int length = from.trail ? from.trail->length + 1 : 1;
  auto trail = std::make_shared<const SchemaTrail>(SchemaTrail{from.schema, from.trail, length});
  for (const SchemaTrail* step = trail.get(); step != nullptr; step = step->before.get())
    if (step->schema == &to)
      schema_error(ErrorKind::kInvalid, from.pointer,
                   "the schema refers back to itself without a property or an item between; it describes nothing");
  if (length > kMaxTrail)
    schema_error(ErrorKind::kLimit, from.pointer,
                 fmt::format("$ref, anyOf and allOf lead on {} times; shorten the way", kMaxTrail));
  return {&to, std::move(pointer), std::move(trail)};
}

SchemaRef SchemaReader::resolve(const SchemaRef& at, const SchemaJson& reference) const {
  const std::string where = at.pointer + "/$ref";
  if (!reference.is_string()) schema_error(ErrorKind::kInvalid, where, "must be a string such as \"#/$defs/name\"");
  const auto text = percent_decoded(reference.get<std::string>());
  if (text != "#" && !text.starts_with("#/"))
    schema_error(ErrorKind::kUnsupported, where,
                 fmt::format("\"{}\" points out of this schema or to an anchor; put the definition under $defs and "
                             "write \"#/$defs/name\"",
                             printable(text)));
  try {
    const SchemaJson::json_pointer pointer(text.substr(1));
    return follow(at, root_.at(pointer), text);
  } catch (const nlohmann::json::exception&) {
    schema_error(ErrorKind::kInvalid, where, fmt::format("\"{}\" names nothing in this schema", printable(text)));
  }
}

bool SchemaReader::disjoint(const Conjunction& a, const Conjunction& b, int depth) {
  constexpr int kMaxDepth = 4;
  if (depth > kMaxDepth) return false;
  const std::vector<ValueSchema> left = alternatives(a), right = alternatives(b);
  return std::all_of(left.begin(), left.end(), [&](const ValueSchema& one) {
    return std::all_of(right.begin(), right.end(),
                       [&](const ValueSchema& other) { return disjoint(one, other, depth); });
  });
}

bool SchemaReader::disjoint(const ValueSchema& a, const ValueSchema& b, int depth) {
  const int types = a.types & b.types;
  if (types == 0) return true;
  if (a.values && b.values)
    return std::none_of(a.values->begin(), a.values->end(), [&](const SchemaJson& value) {
      return std::find(b.values->begin(), b.values->end(), value) != b.values->end();
    });
  if (types == kObjectBit) return disjoint_objects(a, b, depth);
  const auto below = [](const std::optional<NumberRange::Bound>& high, const std::optional<NumberRange::Bound>& low) {
    return high && low &&
           (high->value < low->value || (high->value == low->value && (high->exclusive || low->exclusive)));
  };
  if ((types & ~(kIntegerBit | kFractionBit)) == 0)
    return below(a.number.high, b.number.low) || below(b.number.high, a.number.low);
  if (types == kStringBit) return a.max_length < b.min_length || b.max_length < a.min_length;
  return types == kArrayBit && (a.max_items < b.min_items || b.max_items < a.min_items);
}

// By a property that one requires and the other cannot have, or that both require with nothing in common.
bool SchemaReader::disjoint_objects(const ValueSchema& a, const ValueSchema& b, int depth) {
  const auto of_property = [](const ValueSchema& value, const std::string& name) {
    Conjunction conjunction;
    for (const SchemaRef& part : value.object_parts) {
      const SchemaJson& schema = *part.schema;
      if (schema.contains("properties") && schema["properties"].contains(name)) {
        conjunction.push_back(schema_part(part, "properties", name));
      } else if (schema.contains("additionalProperties") && !schema.contains("patternProperties")) {
        conjunction.push_back(schema_part(part, "additionalProperties"));
      }
    }
    return conjunction;
  };
  const auto requires_it = [](const ValueSchema& value, const std::string& name) {
    return std::find(value.required.begin(), value.required.end(), name) != value.required.end();
  };
  const auto apart = [&](const ValueSchema& one, const ValueSchema& other) {
    return std::any_of(one.required.begin(), one.required.end(), [&](const std::string& name) {
      const Conjunction theirs = of_property(other, name);
      if (requires_it(other, name)) return disjoint(of_property(one, name), theirs, depth + 1);
      return alternatives(theirs).empty();
    });
  };
  return apart(a, b) || apart(b, a);
}

}  // namespace shoal::text
