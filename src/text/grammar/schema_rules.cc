// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/schema_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/json_file.h"
#include "text/grammar/formats.h"
#include "text/grammar/pattern.h"
#include "text/utf8.h"

namespace shoal::text {
namespace {

constexpr size_t kMaxKeyPatterns = 3;  // patternProperties of one object: each subset of them is a kind of key

bool has(const SchemaRef& part, const char* keyword) { return part.schema->contains(keyword); }

class SchemaRules {
 public:
  SchemaRules(const SchemaJson& root, Automaton& automaton, const JsonRules& json)
      : reader_(root), automaton_(automaton), json_(json), builder_(automaton, json) {}

  int32_t compile() {
    const int32_t root = rule_of({reader_.root()});
    for (size_t i = 0; i < waiting_.size();
         ++i) {  // not by recursion: definitions may refer to each other in a long row
      const auto [conjunction, start] = std::move(waiting_[i]);
      const int32_t end = automaton_.add_node();
      automaton_.nodes[end].ends = true;
      for (const ValueSchema& value : reader_.alternatives(conjunction))
        for (const int32_t rule : rules_of(value)) automaton_.call(start, rule, end);
    }
    return root;
  }

 private:
  // Schemas that hold together, whose rule is made later.
  int32_t rule_of(const Conjunction& conjunction) {
    if (conjunction.empty()) return json_.value;
    std::set<const SchemaJson*> key;
    for (const SchemaRef& ref : conjunction) key.insert(ref.schema);
    const auto [found, is_new] = known_.try_emplace(key, kNothing);
    if (is_new) {
      const int32_t start = automaton_.add_node();
      found->second = automaton_.add_rule({.start = start});
      waiting_.emplace_back(conjunction, start);
    }
    return found->second;
  }

  std::vector<int32_t> rules_of(const ValueSchema& value) {
    if (value.values) return rules_of_values(value);
    std::vector<int32_t> rules;
    const auto asks = [&](int bits) { return (value.types & bits) != 0; };
    if (asks(kNullBit)) rules.push_back(json_.null);
    if (asks(kBooleanBit)) rules.push_back(json_.boolean);
    if (asks(kIntegerBit | kFractionBit)) rules.push_back(number(value));
    if (asks(kStringBit) && value.min_length <= value.max_length) rules.push_back(string(value));
    if (asks(kArrayBit) && value.min_items <= value.max_items) rules.push_back(array(value));
    if (asks(kObjectBit)) rules.push_back(object(value));
    return rules;
  }

  static NumberRange range_of(const ValueSchema& value) {
    NumberRange range = value.number;
    range.integer = (value.types & kFractionBit) == 0;
    return range;
  }

  int32_t number(const ValueSchema& value) {
    const NumberRange range = range_of(value);
    if (range.unbounded()) return range.integer ? json_.integer : json_.number;
    return bounded(value.pointer, [&] { return number_rule(automaton_, number_dfa(range)); });
  }

  // Errors of automata do not know where they are.
  template <typename Make>
  static auto bounded(const std::string& pointer, const Make& make) -> decltype(make()) {
    try {
      return make();
    } catch (const Error& error) {
      schema_error(error.kind(), pointer, error.what());
    }
  }

  int32_t string(const ValueSchema& value) {
    if (value.patterns.empty() && value.formats.empty()) return builder_.string(value.min_length, value.max_length);
    const std::optional<ByteDfa> dfa = string_dfa(value);
    return dfa ? string_rule(automaton_, *dfa) : builder_.string(value.min_length, value.max_length);
  }

  // Nothing: only its length is bounded.
  static std::optional<ByteDfa> string_dfa(const ValueSchema& value) {
    std::optional<ByteDfa> all;
    const auto add = [&](const std::string& pattern, const std::string& pointer) {
      bounded(pointer, [&] {
        const ByteDfa dfa = pattern_dfa(pattern);
        all = intersection(all ? *all : ByteDfa::of_length(value.min_length, value.max_length), dfa);
        return true;
      });
    };
    for (const auto& [pattern, pointer] : value.patterns) add(pattern, pointer);
    for (const auto& [format, pointer] : value.formats) {
      const std::optional<std::string> pattern = format_pattern(format);
      if (!pattern)
        schema_error(ErrorKind::kUnsupported, pointer,
                     fmt::format("the format \"{}\" is not known; use one of {}, or pattern", printable(format),
                                 known_formats()));
      if (!pattern->empty()) add(*pattern, pointer);
    }
    return all;
  }

  std::vector<int32_t> rules_of_values(const ValueSchema& value) {
    const std::optional<ByteDfa> number =
        range_of(value).unbounded() ? std::nullopt : std::optional(number_dfa(range_of(value)));
    const std::optional<ByteDfa> text = string_dfa(value);
    std::vector<SchemaJson> kept;
    for (const SchemaJson& one : *value.values) {
      const uint8_t type = type_of(one);
      if ((type & value.types) == 0) continue;
      if (number && one.is_number() && !number->matches(Decimal::parse(one.dump()).value_or(Decimal{}).text()))
        continue;
      if (one.is_string() && !text_fits(one.get<std::string>(), value, text)) continue;
      if ((type == kArrayBit && !value.array_parts.empty()) || (type == kObjectBit && !value.object_parts.empty()))
        schema_error(ErrorKind::kUnsupported, value.pointer,
                     "enum or const with arrays or objects beside items or properties is not supported; leave one of "
                     "the two out");
      kept.push_back(one);
    }
    if (kept.empty()) return {};
    return {builder_.one_of(kept)};
  }

  static bool text_fits(const std::string& text, const ValueSchema& value, const std::optional<ByteDfa>& dfa) {
    if (dfa) return dfa->matches(text);
    const auto length = static_cast<int64_t>(count_code_points(text));
    return length >= value.min_length && length <= value.max_length;
  }

  int32_t array(const ValueSchema& value) {
    ArrayRule rule{.prefix = {}, .items = json_.value, .need = value.min_items, .room = value.max_items};
    size_t prefix = 0;
    for (const SchemaRef& part : value.array_parts) prefix = std::max(prefix, prefix_of(part));
    for (size_t i = 0; i < prefix; ++i) rule.prefix.push_back(rule_of(item(value, i)));
    rule.items = rule_of(item(value, prefix));
    return builder_.array(rule);
  }

  static const char* prefix_keyword(const SchemaRef& part) {
    if (has(part, "prefixItems")) return "prefixItems";
    return has(part, "items") && part.schema->at("items").is_array() ? "items" : nullptr;  // before draft 2020-12
  }
  static size_t prefix_of(const SchemaRef& part) {
    const char* keyword = prefix_keyword(part);
    return keyword != nullptr ? part.schema->at(keyword).size() : 0;
  }

  // What all parts ask of the item at this place.
  static Conjunction item(const ValueSchema& value, size_t index) {
    Conjunction conjunction;
    for (const SchemaRef& part : value.array_parts) {
      const char* prefix = prefix_keyword(part);
      const bool old = prefix != nullptr && std::string_view(prefix) == "items";
      const char* rest = old ? "additionalItems" : "items";
      if (index < prefix_of(part)) {
        conjunction.push_back(schema_part(part, prefix, index));
      } else if (has(part, rest)) {
        conjunction.push_back(schema_part(part, rest));
      }
    }
    return conjunction;
  }

  // --- objects

  // The kinds of keys that patternProperties tell apart.
  struct KeyPattern {
    std::string pattern;
    ByteDfa dfa;
  };
  static std::vector<KeyPattern> key_patterns(const ValueSchema& value) {
    std::vector<KeyPattern> patterns;
    for (const SchemaRef& part : value.object_parts) {
      if (!has(part, "patternProperties")) continue;
      for (const auto& item : part.schema->at("patternProperties").items()) {
        const std::string& pattern = item.key();
        const auto same = [&](const KeyPattern& known) { return known.pattern == pattern; };
        if (std::any_of(patterns.begin(), patterns.end(), same)) continue;
        const std::string pointer = part.pointer + "/patternProperties";
        if (patterns.size() == kMaxKeyPatterns)
          schema_error(ErrorKind::kLimit, pointer,
                       fmt::format("an object may have at most {} patterns; join them", kMaxKeyPatterns));
        patterns.push_back({pattern, bounded(pointer, [&] { return pattern_dfa(pattern); })});
      }
    }
    return patterns;
  }

  // What all parts ask of a property: of this name (if any), whose key matches these patterns.
  static Conjunction property(const ValueSchema& value, const std::string* name, const std::set<std::string>& matched) {
    Conjunction conjunction;
    for (const SchemaRef& part : value.object_parts) {
      bool found = false;
      if (name != nullptr && has(part, "properties") && part.schema->at("properties").contains(*name)) {
        conjunction.push_back(schema_part(part, "properties", *name));
        found = true;
      }
      if (has(part, "patternProperties"))
        for (const auto& [pattern, schema] : part.schema->at("patternProperties").items()) {
          if (!matched.contains(pattern)) continue;
          conjunction.push_back(schema_part(part, "patternProperties", pattern));
          found = true;
        }
      if (!found && has(part, "additionalProperties")) conjunction.push_back(schema_part(part, "additionalProperties"));
    }
    return conjunction;
  }

  static std::vector<std::string> names_of(const ValueSchema& value) {
    std::vector<std::string> names;
    std::set<std::string> known;
    const auto add = [&](const std::string& name) {
      if (known.insert(name).second) names.push_back(name);
    };
    for (const SchemaRef& part : value.object_parts) {
      if (!has(part, "properties")) continue;
      for (const auto& [name, schema] : part.schema->at("properties").items()) add(name);
    }
    for (const std::string& name : value.required) add(name);
    return names;
  }

  int32_t object(const ValueSchema& value) {
    ObjectRule rule;
    const std::vector<std::string> names = names_of(value);
    const std::vector<KeyPattern> patterns = key_patterns(value);
    const std::optional<ByteDfa> allowed = allowed_keys(value);
    const std::set<std::string> all_required(value.required.begin(), value.required.end());
    for (const std::string& name : names) {
      std::set<std::string> matched;
      for (const KeyPattern& pattern : patterns)
        if (pattern.dfa.matches(name)) matched.insert(pattern.pattern);
      const bool required = all_required.contains(name);
      if (allowed && !allowed->matches(name)) {
        if (required) return nothing();
        continue;
      }
      rule.properties.push_back({builder_.property(name, rule_of(property(value, &name, matched))), required});
    }
    add_others(value, names, patterns, allowed, rule);
    return bound_properties(value, rule) ? builder_.object(rule) : nothing();
  }

  int32_t nothing() { return automaton_.add_rule({.start = automaton_.add_node()}); }

  // The keys that propertyNames allow, if it is there.
  std::optional<ByteDfa> allowed_keys(const ValueSchema& value) {
    if (value.property_names.empty()) return std::nullopt;
    const std::string& pointer = value.property_names.front().pointer;
    const std::vector<ValueSchema> choices = reader_.alternatives(value.property_names);
    if (choices.size() != 1)
      schema_error(ErrorKind::kUnsupported, pointer, "with anyOf it is not supported; use a pattern or an enum");
    const ValueSchema& keys = choices.front();
    return bounded(pointer, [&] {
      ByteDfa dfa = string_dfa(keys).value_or(ByteDfa::of_length(keys.min_length, keys.max_length));
      if (!keys.values) return dfa;
      std::vector<std::string> words;
      for (const SchemaJson& word : *keys.values)
        if (word.is_string()) words.push_back(word.get<std::string>());
      return intersection(dfa, ByteDfa::all_but(words), false);
    });
  }

  void add_others(const ValueSchema& value, const std::vector<std::string>& names,
                  const std::vector<KeyPattern>& patterns, const std::optional<ByteDfa>& allowed, ObjectRule& rule) {
    const bool asked = std::any_of(value.object_parts.begin(), value.object_parts.end(),
                                   [](const SchemaRef& part) { return has(part, "additionalProperties"); });
    const bool open = asked || (names.empty() && patterns.empty() && !value.closed);
    for (size_t kind = 0; kind < size_t{1} << patterns.size(); ++kind) {
      if (kind == 0 && !open) continue;
      std::set<std::string> matched;
      for (size_t i = 0; i < patterns.size(); ++i)
        if ((kind >> i & 1) != 0) matched.insert(patterns[i].pattern);
      const Conjunction conjunction = property(value, nullptr, matched);
      if (reader_.alternatives(conjunction).empty()) continue;
      const int32_t key = bounded(value.pointer, [&] { return key_rule(names, patterns, kind, allowed); });
      if (key != kNothing) rule.others.push_back(builder_.property_of(key, rule_of(conjunction)));
    }
  }

  // Keys that match the patterns of `kind`, no others, and none of the names.
  int32_t key_rule(const std::vector<std::string>& names, const std::vector<KeyPattern>& patterns, size_t kind,
                   const std::optional<ByteDfa>& allowed) {
    if (names.empty() && patterns.empty() && !allowed) return json_.string;
    ByteDfa dfa = names.empty() ? ByteDfa::of_length(0, kUnbounded) : ByteDfa::all_but(names);
    if (allowed) dfa = intersection(dfa, *allowed);
    for (size_t i = 0; i < patterns.size(); ++i) dfa = intersection(dfa, total(patterns[i].dfa), (kind >> i & 1) != 0);
    return dfa.is_empty() ? kNothing : string_rule(automaton_, dfa);
  }

  // The same automaton with a way on for every byte.
  static ByteDfa total(ByteDfa dfa) {
    const auto sink = static_cast<int32_t>(dfa.states.size());
    dfa.states.emplace_back();
    for (ByteDfa::State& state : dfa.states)
      for (int32_t& next : state.next)
        if (next == kNothing) next = sink;
    return dfa;
  }

  // minProperties and maxProperties, which the rule counts for further properties only. False: nothing satisfies them.
  static bool bound_properties(const ValueSchema& value, ObjectRule& rule) {
    const auto count = static_cast<int32_t>(rule.properties.size());
    const auto required = static_cast<int32_t>(
        std::count_if(rule.properties.begin(), rule.properties.end(), [](const auto& p) { return p.required; }));
    const bool others = !rule.others.empty();
    if (value.max_properties < kUnbounded) {
      if (value.max_properties < count) {  // then only the required ones
        if (value.max_properties > required)
          schema_error(
              ErrorKind::kUnsupported, value.pointer + "/maxProperties",
              fmt::format(
                  "is {}, between the {} required and the {} declared properties, which is not supported; leave it out",
                  value.max_properties, required, count));
        std::erase_if(rule.properties, [](const auto& p) { return !p.required; });
      }
      rule.room = std::max(0, value.max_properties - static_cast<int32_t>(rule.properties.size()));
    }
    if (value.max_properties < required) return false;
    if (value.min_properties <= required) return true;
    if (others) {
      rule.need = value.min_properties - required;
      if (rule.need > 1 && rule.need <= rule.room)  // names that come out twice count once
        schema_error(
            ErrorKind::kUnsupported, value.pointer + "/minProperties",
            fmt::format("is {}, {} more than the required properties, which names that are free cannot assure; "
                        "name them in required",
                        value.min_properties, rule.need));
      return rule.need <= rule.room;
    }
    if (value.min_properties > std::ssize(rule.properties)) return false;
    if (value.min_properties == std::ssize(rule.properties)) {
      for (auto& property : rule.properties) property.required = true;
    } else {
      schema_error(
          ErrorKind::kUnsupported, value.pointer + "/minProperties",
          fmt::format(
              "is {}, between the {} required and the {} declared properties, which is not supported; require more",
              value.min_properties, required, count));
    }
    return true;
  }

  SchemaReader reader_;
  Automaton& automaton_;
  const JsonRules& json_;
  JsonBuilder builder_;
  std::map<std::set<const SchemaJson*>, int32_t> known_;
  std::vector<std::pair<Conjunction, int32_t>> waiting_;  // and the start of their rule
};

}  // namespace

int32_t add_schema(const SchemaJson& schema, Automaton& automaton, const JsonRules& json) {
  SchemaRules rules(schema, automaton, json);
  const int32_t root = rules.compile();
  automaton.finish(json.node_count, json.rule_count);
  if (!automaton.can_end(root))
    schema_error(ErrorKind::kInvalid, "#",
                 "nothing satisfies this schema (within a nesting of 64); look for properties that require each other "
                 "without end, and for bounds, types and constants that exclude each other");
  return root;
}

}  // namespace shoal::text
