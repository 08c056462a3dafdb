// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/byte_dfa.h"

#include <fmt/format.h>

#include <algorithm>
#include <compare>

#include "base/error.h"

namespace shoal::text {
namespace {

// Where in a character a string stands: 0 between two, else what may follow (table 3-7 of Unicode).
enum class Utf8Place : uint8_t { kBetween, kLast, kTwo, kThree, kAfterE0, kAfterED, kAfterF0, kAfterF4 };

std::optional<Utf8Place> utf8_step(Utf8Place place, uint8_t byte) {
  const auto within = [&](int low, int high, Utf8Place next) {
    return byte >= low && byte <= high ? std::optional(next) : std::nullopt;
  };
  switch (place) {
    case Utf8Place::kBetween:
      if (byte < 0x80) return Utf8Place::kBetween;
      if (byte >= 0xC2 && byte <= 0xDF) return Utf8Place::kLast;
      if (byte == 0xE0) return Utf8Place::kAfterE0;
      if (byte == 0xED) return Utf8Place::kAfterED;
      if (byte >= 0xE1 && byte <= 0xEF) return Utf8Place::kTwo;
      if (byte == 0xF0) return Utf8Place::kAfterF0;
      if (byte >= 0xF1 && byte <= 0xF3) return Utf8Place::kThree;
      if (byte == 0xF4) return Utf8Place::kAfterF4;
      return std::nullopt;
    case Utf8Place::kLast:
      return within(0x80, 0xBF, Utf8Place::kBetween);
    case Utf8Place::kTwo:
      return within(0x80, 0xBF, Utf8Place::kLast);
    case Utf8Place::kThree:
      return within(0x80, 0xBF, Utf8Place::kTwo);
    case Utf8Place::kAfterE0:
      return within(0xA0, 0xBF, Utf8Place::kLast);
    case Utf8Place::kAfterED:
      return within(0x80, 0x9F, Utf8Place::kLast);
    case Utf8Place::kAfterF0:
      return within(0x90, 0xBF, Utf8Place::kTwo);
    case Utf8Place::kAfterF4:
      return within(0x80, 0x8F, Utf8Place::kTwo);
  }
  return std::nullopt;
}

// Edges of one node in as few ranges as they fit.
void add_edges(Automaton& automaton, int32_t from, const std::array<int32_t, 256>& next) {
  for (int low = 0; low < 256;) {
    int high = low;
    while (high + 1 < 256 && next[high + 1] == next[low]) ++high;
    if (next[low] != kNothing) automaton.edge(from, static_cast<uint8_t>(low), static_cast<uint8_t>(high), next[low]);
    low = high + 1;
  }
}

constexpr std::string_view kEscaped = "\"\\\b\f\n\r\t";
constexpr std::string_view kEscapeLetters = "\"\\bfnrt";

}  // namespace

void too_many_states() {
  throw Error(ErrorKind::kLimit,
              fmt::format("needs an automaton of more than {} states; lower the bounds of its repetitions or lengths",
                          ByteDfa::kMaxStates));
}

ByteDfa ByteDfa::of_length(int64_t least, int64_t most) {
  struct State {
    int64_t count;
    Utf8Place place;
    auto operator<=>(const State&) const = default;  // NOLINT(modernize-use-nullptr): its own 0
  };
  const bool bounded = most != kUnbounded;
  return explore(
      State{0, Utf8Place::kBetween},
      [&](const State& state, uint8_t byte) -> std::optional<State> {
        const std::optional<Utf8Place> place = utf8_step(state.place, byte);
        if (!place) return std::nullopt;
        if (state.place != Utf8Place::kBetween) return State{state.count, *place};
        if (bounded && state.count == most) return std::nullopt;
        return State{bounded ? state.count + 1 : std::min(least, state.count + 1), *place};
      },
      [&](const State& state) { return state.place == Utf8Place::kBetween && state.count >= least; });
}

ByteDfa ByteDfa::all_but(const std::vector<std::string>& words) {
  struct State {
    std::string prefix;  // of a word; empty and `left` once the string is no word's prefix
    bool left;
    Utf8Place place;
    auto operator<=>(const State&) const = default;  // NOLINT(modernize-use-nullptr): its own 0
  };
  std::map<std::string, bool> prefixes;  // -> is a word
  for (const std::string& word : words) {
    for (size_t length = 0; length < word.size(); ++length) prefixes.try_emplace(word.substr(0, length), false);
    prefixes[word] = true;
    if (prefixes.size() > kMaxStates) too_many_states();
  }
  prefixes.try_emplace("", false);
  return explore(
      State{"", false, Utf8Place::kBetween},
      [&](const State& state, uint8_t byte) -> std::optional<State> {
        const std::optional<Utf8Place> place = utf8_step(state.place, byte);
        if (!place) return std::nullopt;
        std::string longer = state.prefix + static_cast<char>(byte);
        if (state.left || !prefixes.contains(longer)) return State{"", true, *place};
        return State{std::move(longer), false, *place};
      },
      [&](const State& state) {
        return state.place == Utf8Place::kBetween && (state.left || !prefixes.at(state.prefix));
      });
}

bool ByteDfa::matches(std::string_view bytes) const {
  int32_t at = 0;
  for (const char byte : bytes) {
    at = states[at].next[static_cast<uint8_t>(byte)];
    if (at == kNothing) return false;
  }
  return states[at].accepts;
}

bool ByteDfa::is_empty() const {
  return std::none_of(states.begin(), states.end(), [](const State& state) { return state.accepts; });
}

ByteDfa intersection(const ByteDfa& a, const ByteDfa& b, bool b_accepts) {
  using Pair = std::pair<int32_t, int32_t>;
  return explore(
      Pair{0, 0},
      [&](const Pair& at, uint8_t byte) -> std::optional<Pair> {
        const Pair next = {a.states[at.first].next[byte], b.states[at.second].next[byte]};
        if (next.first == kNothing || next.second == kNothing) return std::nullopt;
        return next;
      },
      [&](const Pair& at) { return a.states[at.first].accepts && b.states[at.second].accepts == b_accepts; });
}

int32_t number_rule(Automaton& automaton, const ByteDfa& dfa) {
  const auto base = static_cast<int32_t>(automaton.nodes.size());
  for (const ByteDfa::State& state : dfa.states) automaton.nodes[automaton.add_node()].ends = state.accepts;
  for (int32_t i = 0; i < std::ssize(dfa.states); ++i) {
    std::array<int32_t, 256> next = dfa.states[i].next;
    for (int32_t& to : next)
      if (to != kNothing) to += base;
    add_edges(automaton, base + i, next);
  }
  return automaton.add_rule({.start = base});
}

int32_t string_rule(Automaton& automaton, const ByteDfa& dfa) {
  const int32_t start = automaton.add_node(), end = automaton.add_node();
  automaton.nodes[end].ends = true;
  const auto base = static_cast<int32_t>(automaton.nodes.size());
  for (size_t i = 0; i < dfa.states.size(); ++i) automaton.add_node();
  automaton.edge(start, '"', base);
  for (int32_t i = 0; i < std::ssize(dfa.states); ++i) {
    std::array<int32_t, 256> next = dfa.states[i].next;
    for (int32_t& to : next)
      if (to != kNothing) to += base;
    int32_t escape = kNothing;
    for (size_t c = 0; c < kEscaped.size(); ++c) {
      const int32_t to = next[static_cast<uint8_t>(kEscaped[c])];
      if (to == kNothing) continue;
      if (escape == kNothing) escape = automaton.add_node();
      automaton.edge(escape, kEscapeLetters[c], to);
    }
    for (int byte = 0; byte < 0x20; ++byte) next[byte] = kNothing;
    next['"'] = dfa.states[i].accepts ? end : kNothing;
    next['\\'] = escape;
    add_edges(automaton, base + i, next);
  }
  return automaton.add_rule({.start = start});
}

}  // namespace shoal::text
