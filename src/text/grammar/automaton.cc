// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/automaton.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace shoal::text {

int32_t Automaton::add_node() {
  if (std::ssize(nodes) >= kMaxNodes)
    throw Error(ErrorKind::kLimit,
                fmt::format("the schema is too large: it needs more than {} states; make it smaller, or lower "
                            "the bounds in its patterns",
                            kMaxNodes));
  nodes.emplace_back();
  return static_cast<int32_t>(nodes.size()) - 1;
}

int32_t Automaton::add_rule(const Rule& rule) {
  rules.push_back(rule);
  return static_cast<int32_t>(rules.size()) - 1;
}

void Automaton::edge(int32_t from, uint8_t low, uint8_t high, int32_t to, CountOp op) {
  nodes[from].edges.push_back({low, high, op, to});
}

int32_t Automaton::literal(int32_t from, std::string_view bytes) {
  for (const char byte : bytes) {
    const int32_t next = add_node();
    edge(from, byte, next);
    from = next;
  }
  return from;
}

int32_t Automaton::add_choice(const std::vector<int32_t>& choices) {
  if (choices.size() == 1) return choices.front();
  const int32_t start = add_node(), end = add_node();
  nodes[end].ends = true;
  for (const int32_t choice : choices) call(start, choice, end);
  return add_rule({.start = start});
}

void Automaton::finish(int32_t first_node, int32_t first_rule) {
  set_heights(first_node);
  check_left_recursion(first_rule);
}

// The height of a node is the least over its ways on of the greatest nesting on that way. Knuth 1977 ("A generalization of Dijkstra's
// algorithm"): nodes are settled by rising height, and a call when both its rule's start and the node behind it are.
void Automaton::set_heights(int32_t first_node) {
  struct Use {
    int32_t node, call;  // call < 0: an edge of the node
  };
  constexpr int16_t kNever = kMaxNesting + 1;
  std::vector<std::vector<Use>> uses(nodes.size());
  std::vector<std::vector<int32_t>> by_height(kNever);
  for (int32_t id = first_node; id < std::ssize(nodes); ++id) {
    Node& node = nodes[id];
    node.height = kNever;
    for (const Edge& e : node.edges) uses[e.to].push_back({id, -1});
    for (const TokenEdge& e : node.tokens) uses[e.to].push_back({id, -1});
    if (node.also != kNothing) uses[node.also].push_back({id, -1});
    for (int32_t i = 0; i < std::ssize(node.calls); ++i) {
      uses[node.calls[i].back].push_back({id, i});
      uses[rules[node.calls[i].rule].start].push_back({id, i});
    }
    if (node.ends) by_height[0].push_back(id);
  }
  const auto height_of_call = [&](const Call& call) {
    const Rule& rule = rules[call.rule];
    return std::max<int>(nodes[rule.start].height + (rule.nests ? 1 : 0), nodes[call.back].height);
  };
  const auto offer = [&](const Use& use, int height) {
    if (use.call >= 0) height = height_of_call(nodes[use.node].calls[use.call]);
    if (use.node >= first_node && height < kNever && nodes[use.node].height == kNever)
      by_height[height].push_back(use.node);
  };
  for (int32_t id = 0; id < first_node; ++id)  // settled before
    for (const Use& use : uses[id]) offer(use, nodes[id].height);
  for (int16_t height = 0; height < kNever; ++height) {
    for (size_t i = 0; i < by_height[height].size(); ++i) {
      const int32_t id = by_height[height][i];
      if (nodes[id].height != kNever) continue;
      nodes[id].height = height;
      for (const Use& use : uses[id]) offer(use, height);
    }
  }
}

// Schemas are compiled so that a rule which calls itself reads a bracket first; this holds the compiler to it.
void Automaton::check_left_recursion(int32_t first_rule) const {
  // What a rule can call before it has read a byte; all callees count as readable without one where they are blanks only.
  enum class State : uint8_t { kNew, kOpen, kDone };
  std::vector<State> states(rules.size(), State::kNew);
  std::vector<std::pair<int32_t, size_t>> path;
  const auto node_of = [&](int32_t rule) -> const Node& { return nodes[rules[rule].start]; };
  for (int32_t rule = first_rule; rule < std::ssize(rules); ++rule) {
    if (states[rule] != State::kNew) continue;
    path.emplace_back(rule, 0);
    states[rule] = State::kOpen;
    while (!path.empty()) {
      auto& [at, next] = path.back();
      if (next == node_of(at).calls.size()) {
        states[at] = State::kDone;
        path.pop_back();
        continue;
      }
      const int32_t callee = node_of(at).calls[next++].rule;
      CHECK(states[callee] != State::kOpen);
      if (states[callee] == State::kDone) continue;
      states[callee] = State::kOpen;
      path.emplace_back(callee, 0);
      if (path.size() > 500)
        throw Error(ErrorKind::kLimit, "the schema is nested too deeply: anyOf within anyOf, 500 levels");
    }
  }
}

}  // namespace shoal::text
