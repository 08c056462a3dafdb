// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/json_rules.h"

#include <algorithm>
#include <map>

#include "text/grammar/number_range.h"

namespace shoal::text {
namespace {

constexpr int32_t kBlanksBefore = 8, kIndentation = 80;

int32_t add_end(Automaton& a) {
  const int32_t end = a.add_node();
  a.nodes[end].ends = true;
  return end;
}

int32_t fixed(Automaton& a, std::string_view text) {
  const int32_t start = a.add_node();
  a.nodes[a.literal(start, text)].ends = true;
  return a.add_rule({.start = start});
}

// At most `room` of the characters.
int32_t run_of(Automaton& a, std::initializer_list<char> bytes, int32_t room) {
  const int32_t node = a.add_node();
  for (const char byte : bytes) a.edge(node, byte, node, CountOp::kCount);
  a.nodes[node].ends = true;
  return a.add_rule({.start = node, .room = room});
}

int32_t add_blanks(Automaton& a) {
  const int32_t before = run_of(a, {' ', '\t'}, kBlanksBefore), indentation = run_of(a, {' ', '\t'}, kIndentation);
  const int32_t start = a.add_node(), line = a.add_node(), line_end = a.add_node(), second = a.add_node(),
                second_end = a.add_node(), indent = a.add_node(), end = add_end(a);
  a.call(start, before, line);
  a.nodes[line].ends = true;
  a.edge(line, '\n', second);
  a.edge(line, '\r', line_end);
  a.edge(line_end, '\n', second);
  a.edge(second, '\n', indent);
  a.edge(second, '\r', second_end);
  a.edge(second_end, '\n', indent);
  a.nodes[second].also = indent;
  a.call(indent, indentation, end);
  return a.add_rule({.start = start});
}

// Digits within [low, high] numbers of them, from `from`; returns the nodes after the least number and later, the first one in front.
std::vector<int32_t> digits(Automaton& a, int32_t from, int least, int most) {
  std::vector<int32_t> stops;
  for (int i = 0; i <= most; ++i) {
    if (i >= least) stops.push_back(from);
    if (i == most) break;
    const int32_t next = a.add_node();
    a.edge(from, '0', '9', next);
    from = next;
  }
  return stops;
}

// From each of `ends` the exponent of a double: up to 279, down to -999.
void add_exponent(Automaton& a, const std::vector<int32_t>& ends, int32_t end) {
  const int32_t e = a.add_node(), plus = a.add_node(), minus = a.add_node();
  for (const int32_t from : ends) {
    a.edge(from, 'e', e);
    a.edge(from, 'E', e);
  }
  a.edge(e, '+', plus);
  a.edge(e, '-', minus);
  const int32_t zero = a.add_node(), one = a.add_node(), two = a.add_node(), more = a.add_node(), last = a.add_node();
  for (const int32_t from : {e, plus}) {
    a.edge(from, '0', zero);
    a.edge(from, '1', one);
    a.edge(from, '2', two);
    a.edge(from, '3', '9', more);
  }
  for (const int32_t from : {zero, one, two, more, last}) a.nodes[from].ends = true;
  a.edge(zero, '0', '9', last);
  a.edge(more, '0', '9', last);
  const int32_t one_more = a.add_node(), two_more = a.add_node();
  a.edge(one, '0', '9', one_more);
  a.edge(two, '0', '7', two_more);
  a.edge(two, '8', '9', last);
  for (const int32_t from : {one_more, two_more}) {
    a.nodes[from].ends = true;
    a.edge(from, '0', '9', end);
  }
  for (const int32_t stop : digits(a, minus, 1, 3)) a.nodes[stop].ends = true;
}

int32_t add_number(Automaton& a, bool integer) {
  const int32_t start = a.add_node(), minus = a.add_node(), zero = a.add_node(), first = a.add_node();
  const int32_t end = add_end(a);
  a.edge(start, '-', minus);
  a.edge(start, '0', zero);
  if (!integer) a.edge(minus, '0', zero);
  for (const int32_t from : {start, minus}) a.edge(from, '1', '9', first);
  std::vector<int32_t> ends = digits(a, first, 0, kWholeDigits - 1);
  ends.push_back(zero);
  for (const int32_t stop : ends) a.nodes[stop].ends = true;
  if (integer) return a.add_rule({.start = start});
  const int32_t point = a.add_node();
  for (const int32_t stop : ends) a.edge(stop, '.', point);
  const std::vector<int32_t> fraction = digits(a, point, 1, kFractionDigits);
  for (const int32_t stop : fraction) a.nodes[stop].ends = true;
  ends.insert(ends.end(), fraction.begin(), fraction.end());
  add_exponent(a, ends, end);
  return a.add_rule({.start = start});
}

// Behind the first byte of a character, nodes that read the rest of it and come to `to`; the well-formed sequences of Unicode's table 3-7.
void add_characters(Automaton& a, int32_t from, int32_t to) {
  constexpr auto kCount = CountOp::kCount;
  const int32_t last = a.add_node(), two = a.add_node(), three = a.add_node();
  a.edge(last, 0x80, 0xBF, to);
  a.edge(two, 0x80, 0xBF, last);
  a.edge(three, 0x80, 0xBF, two);
  const auto lead = [&](uint8_t byte, uint8_t low, uint8_t high, int32_t next) {
    const int32_t second = a.add_node();
    a.edge(from, byte, byte, second, kCount);
    a.edge(second, low, high, next);
  };
  a.edge(from, 0xC2, 0xDF, last, kCount);
  lead(0xE0, 0xA0, 0xBF, last);
  a.edge(from, 0xE1, 0xEC, two, kCount);
  lead(0xED, 0x80, 0x9F, last);
  a.edge(from, 0xEE, 0xEF, two, kCount);
  lead(0xF0, 0x90, 0xBF, two);
  a.edge(from, 0xF1, 0xF3, three, kCount);
  lead(0xF4, 0x80, 0x8F, two);
}

void hex(Automaton& a, int32_t from, int32_t to) {
  a.edge(from, '0', '9', to);
  a.edge(from, 'a', 'f', to);
  a.edge(from, 'A', 'F', to);
}

// Behind a backslash: short escapes, \uXXXX, and pairs of surrogates, never one alone.
void add_escapes(Automaton& a, int32_t from, int32_t to) {
  for (const char c : std::string_view("\"\\/bfnrt")) a.edge(from, c, to);
  const int32_t u = a.add_node(), d = a.add_node(), second = a.add_node(), third = a.add_node(), fourth = a.add_node();
  a.edge(from, 'u', u);
  a.edge(u, '0', '9', second);
  for (const char c : {'a', 'A'}) {
    const auto base = static_cast<uint8_t>(c);
    a.edge(u, base, base + 2, second);
    a.edge(u, base + 3, base + 3, d);
    a.edge(u, base + 4, base + 5, second);
  }
  hex(a, second, third);
  hex(a, third, fourth);
  hex(a, fourth, to);
  a.edge(d, '0', '7', third);
  int32_t high = a.add_node();
  a.edge(d, '8', '9', high);
  a.edge(d, 'a', 'b', high);
  a.edge(d, 'A', 'B', high);
  for (int i = 0; i < 2; ++i) {
    const int32_t next = a.add_node();
    hex(a, high, next);
    high = next;
  }
  const int32_t low = a.literal(high, "\\u"), low_d = a.add_node();
  a.edge(low, 'd', low_d);
  a.edge(low, 'D', low_d);
  a.edge(low_d, 'c', 'f', third);
  a.edge(low_d, 'C', 'F', third);
}

// Node behind the opening quote.
int32_t add_string_body(Automaton& a) {
  const int32_t body = a.add_node(), escape = a.add_node(), end = add_end(a);
  constexpr auto kCount = CountOp::kCount;
  a.edge(body, 0x20, 0x21, body, kCount);
  a.edge(body, 0x23, 0x5B, body, kCount);
  a.edge(body, 0x5D, 0x7F, body, kCount);
  a.edge(body, '"', end, CountOp::kEnough);
  a.edge(body, '\\', escape, kCount);
  add_characters(a, body, body);
  add_escapes(a, escape, body);
  return body;
}

}  // namespace

JsonRules::JsonRules(Automaton& a) {
  blanks = add_blanks(a);
  string_start = a.add_node();
  a.edge(string_start, '"', add_string_body(a));
  string = a.add_rule({.start = string_start});
  number = add_number(a, false);
  integer = add_number(a, true);
  null = fixed(a, "null");
  boolean = a.add_choice({fixed(a, "true"), fixed(a, "false")});
  value = a.add_rule({});  // known to object and array before it is made
  JsonBuilder builder(a, *this);
  array = builder.array({.prefix = {}, .items = value});
  object = builder.object({.properties = {}, .others = {builder.property_of(string, value)}});
  const int32_t start = a.add_node(), end = add_end(a);
  for (const int32_t kind : {object, array, string, number, boolean, null}) a.call(start, kind, end);
  a.rules[value].start = start;
  a.finish(0, 0);
  node_count = static_cast<int32_t>(a.nodes.size());
  rule_count = static_cast<int32_t>(a.rules.size());
}

int32_t JsonBuilder::add_end() { return text::add_end(automaton_); }

int32_t JsonBuilder::after_blanks(int32_t node) {
  const int32_t from = automaton_.add_node();
  automaton_.call(from, json_.blanks, node);
  return from;
}

int32_t JsonBuilder::string(int32_t need, int32_t room) {
  if (need == 0 && room == kUnbounded) return json_.string;
  return automaton_.add_rule({.start = json_.string_start, .need = need, .room = room});
}

// As a trie, so that texts which begin alike are read as one.
int32_t JsonBuilder::scalars(const std::vector<std::string>& texts) {
  const int32_t start = automaton_.add_node();
  std::map<std::pair<int32_t, char>, int32_t> next;
  for (const std::string& text : texts) {
    int32_t at = start;
    for (const char byte : text) {
      const auto [found, is_new] = next.try_emplace({at, byte}, kNothing);
      if (is_new) {
        found->second = automaton_.add_node();
        automaton_.edge(at, byte, found->second);
      }
      at = found->second;
    }
    automaton_.nodes[at].ends = true;
  }
  return automaton_.add_rule({.start = start});
}

int32_t JsonBuilder::constant(const nlohmann::ordered_json& value) { return one_of({value}); }

int32_t JsonBuilder::one_of(const std::vector<nlohmann::ordered_json>& values) {
  std::vector<std::string> texts;
  std::vector<int32_t> choices;
  for (const nlohmann::ordered_json& value : values) {
    if (value.is_object()) {
      ObjectRule rule;
      for (const auto& [name, part] : value.items()) rule.properties.push_back({property(name, constant(part)), true});
      choices.push_back(object(rule));
    } else if (value.is_array()) {
      ArrayRule rule;
      for (const auto& part : value) rule.prefix.push_back(constant(part));
      rule.need = static_cast<int32_t>(rule.prefix.size());
      choices.push_back(array(rule));
    } else {
      texts.push_back(value.dump());
    }
  }
  if (!texts.empty()) choices.push_back(scalars(texts));
  return automaton_.add_choice(choices);
}

int32_t JsonBuilder::array(const ArrayRule& array) {
  Automaton& a = automaton_;
  const int32_t start = a.add_node(), end = add_end();
  const auto fixed_items = static_cast<int32_t>(std::min<size_t>(array.prefix.size(), static_cast<size_t>(array.room)));
  const bool more = array.items != kNothing && array.room > fixed_items;
  int32_t at = a.add_node();  // where an item or the end may come, behind blanks
  a.edge(start, '[', after_blanks(at));
  for (int32_t i = 0; i < fixed_items; ++i) {
    if (i >= array.need) a.edge(at, ']', end);
    const int32_t item = i == 0 ? at : a.add_node(), next = a.add_node();
    if (i > 0) a.edge(at, ',', after_blanks(item));
    a.call(item, array.prefix[i], after_blanks(next));
    at = next;
  }
  Rule rule{.start = start, .nests = true};
  if (fixed_items >= array.need || !more) a.edge(at, ']', end);
  if (more) {
    rule.need = std::max(0, array.need - fixed_items);
    rule.room = array.room == kUnbounded ? kUnbounded : array.room - fixed_items;
    const int32_t item = a.add_node(), next = a.add_node();
    if (fixed_items > 0) {
      a.edge(at, ',', after_blanks(item), CountOp::kCount);
    } else {
      a.call(at, array.items, after_blanks(next), CountOp::kCount);
    }
    a.call(item, array.items, after_blanks(next));
    a.edge(next, ',', after_blanks(item), CountOp::kCount);
    a.edge(next, ']', end, CountOp::kEnough);
  }
  return a.add_rule(rule);
}

int32_t JsonBuilder::property_of(int32_t key, int32_t value) {
  Automaton& a = automaton_;
  const int32_t start = a.add_node(), colon = a.add_node(), before_value = a.add_node(), end = add_end();
  a.call(start, key, after_blanks(colon));
  a.edge(colon, ':', after_blanks(before_value));
  a.call(before_value, value, end);
  return a.add_rule({.start = start});
}

int32_t JsonBuilder::property(std::string_view name, int32_t value) {
  return property_of(scalars({json_string(name)}), value);
}

// Nodes, for each i: first[i], where property i or a later one may come first, and later[i], where it comes after another.
int32_t JsonBuilder::object(const ObjectRule& object) {
  Automaton& a = automaton_;
  const auto count = static_cast<int32_t>(object.properties.size());
  const bool others = !object.others.empty() && object.room > 0;
  const int32_t start = a.add_node(), end = add_end();
  const int32_t further = a.add_node();  // behind a further property
  std::vector<int32_t> first(count + 1), later(count + 1), after(count + 1);
  int32_t last_required = -1;
  for (int32_t i = 0; i <= count; ++i) {
    first[i] = a.add_node(), later[i] = a.add_node(), after[i] = a.add_node();
    if (i < count && object.properties[i].required) last_required = i;
  }
  a.edge(start, '{', after_blanks(first[0]));
  for (int32_t i = 0; i <= count; ++i) {
    const bool may_close = i > last_required;
    if (may_close && object.need == 0) {
      if (i == last_required + 1) a.edge(first[i], '}', end);
      a.edge(after[i], '}', end, CountOp::kEnough);
    }
    if (i < count || others) a.edge(after[i], ',', after_blanks(later[i]));
    if (i == count) break;
    a.call(first[i], object.properties[i].rule, after_blanks(after[i + 1]));
    a.call(later[i], object.properties[i].rule, after_blanks(after[i + 1]));
    if (object.properties[i].required) continue;
    a.nodes[first[i]].also = first[i + 1];
    a.nodes[later[i]].also = later[i + 1];
  }
  if (others) {
    const int32_t again = a.add_node();
    for (const int32_t rule : object.others) {
      a.call(first[count], rule, after_blanks(further), CountOp::kCount);
      a.call(later[count], rule, after_blanks(further), CountOp::kCount);
      a.call(again, rule, after_blanks(further));
    }
    a.edge(further, ',', after_blanks(again), CountOp::kCount);
    a.edge(further, '}', end, CountOp::kEnough);
  }
  return a.add_rule({.start = start, .need = object.need, .room = object.room, .nests = true});
}

// Blanks come in front only: what follows the value would not end by itself.
int32_t JsonBuilder::text(int32_t value) {
  const int32_t before = automaton_.add_node(), end = add_end();
  automaton_.call(before, value, end);
  return automaton_.add_rule({.start = after_blanks(before)});
}

std::string json_string(std::string_view text) { return nlohmann::ordered_json(text).dump(); }

}  // namespace shoal::text
