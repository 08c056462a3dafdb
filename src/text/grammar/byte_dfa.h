// SPDX-License-Identifier: Apache-2.0
// Deterministic automata over bytes for the insides of strings and numbers: made from patterns, lengths, ranges and lists of words, cut with
// each other, and turned into rules of a grammar. Invariants: state 0 is the start; sizes are bounded (Error kLimit).
// Strings are sets of valid UTF-8, as they are before JSON escapes them.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/automaton.h"
#include "text/grammar/json_rules.h"

namespace shoal::text {

struct ByteDfa {
  static constexpr int32_t kMaxStates = 30'000;
  struct State {
    std::array<int32_t, 256> next;
    bool accepts = false;
    State() { next.fill(kNothing); }
  };
  std::vector<State> states;

  // All strings of `least` to `most` characters.
  static ByteDfa of_length(int64_t least, int64_t most);
  // All strings but these.
  static ByteDfa all_but(const std::vector<std::string>& words);
  bool matches(std::string_view bytes) const;
  bool is_empty() const;  // nothing is accepted
};

// What `a` accepts and `b` accepts, or (with `b_accepts` false) does not. `b` must be total over UTF-8 in the latter case.
ByteDfa intersection(const ByteDfa& a, const ByteDfa& b, bool b_accepts = true);

// The automaton whose states are what `step` makes of `start`, found by trying every byte. State is ordered; step gives nullopt for no way on.
template <typename State, typename Step, typename Accepts>
ByteDfa explore(const State& start, const Step& step, const Accepts& accepts);

// Error(kLimit): an automaton grows past ByteDfa::kMaxStates.
[[noreturn]] void too_many_states();

// Rules that read a number, and a quoted string with the characters that JSON must escape in their short form.
int32_t number_rule(Automaton& automaton, const ByteDfa& dfa);
int32_t string_rule(Automaton& automaton, const ByteDfa& dfa);

template <typename State, typename Step, typename Accepts>
ByteDfa explore(const State& start, const Step& step, const Accepts& accepts) {
  ByteDfa dfa;
  std::map<State, int32_t> ids = {{start, 0}};
  std::vector<State> queue = {start};
  for (size_t at = 0; at < queue.size(); ++at) {
    if (std::ssize(queue) > ByteDfa::kMaxStates) too_many_states();
    ByteDfa::State& made = dfa.states.emplace_back();
    const State state = queue[at];
    made.accepts = accepts(state);
    for (int byte = 0; byte < 256; ++byte) {
      const std::optional<State> next = step(state, static_cast<uint8_t>(byte));
      if (!next) continue;
      const auto [found, is_new] = ids.try_emplace(*next, static_cast<int32_t>(queue.size()));
      if (is_new) queue.push_back(*next);
      made.next[byte] = found->second;
    }
  }
  return dfa;
}

}  // namespace shoal::text
