// SPDX-License-Identifier: Apache-2.0
// Automaton: which byte strings a grammar allows, as a recursive transition network. Rules are small graphs of nodes; an edge reads a byte or a
// special token, a call reads what another rule allows and comes back to a node. A rule being read is a frame on a stack, with two
// counters (need: how many more must come, room: how many more may), so that "5 to 1,000 characters" are a few nodes.
// Not here: JSON (json_rules.h), schemas, reading texts (matcher.h).
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

namespace shoal::text {

constexpr int32_t kUnbounded = std::numeric_limits<int32_t>::max();
constexpr int32_t kNothing = -1;

enum class CountOp : uint8_t {
  kKeep,
  kCount,   // one more: there must be room
  kEnough,  // no more are needed
};

struct Edge {
  uint8_t low, high;  // bytes [low, high]
  CountOp op;
  int32_t to;
};

struct Call {
  int32_t rule;
  int32_t back;  // node to go on at
  CountOp op;
};

struct TokenEdge {
  int32_t token;  // a special token as a whole
  int32_t to;
};

struct Node {
  std::vector<Edge> edges;  // no two share a byte
  std::vector<Call> calls;
  std::vector<TokenEdge> tokens;
  int32_t also = kNothing;  // whatever goes on from that node does from this one
  bool ends = false;        // the rule may end here
  int16_t height = 0;  // nesting that the shortest way to the rule's end needs; above kMaxNesting: none leads there
  bool only_ends() const { return ends && edges.empty() && calls.empty() && tokens.empty() && also == kNothing; }
};

struct Rule {
  int32_t start = kNothing;
  int32_t need = 0, room = kUnbounded;
  bool nests = false;  // counts towards kMaxNesting
};

constexpr int16_t kMaxNesting = 64;
constexpr int64_t kMaxNodes = 400'000;

class Automaton {
 public:
  std::vector<Node> nodes;
  std::vector<Rule> rules;
  int32_t root = kNothing;  // rule

  // Error(kLimit) at kMaxNodes.
  int32_t add_node();
  int32_t add_rule(const Rule& rule);
  void edge(int32_t from, uint8_t low, uint8_t high, int32_t to, CountOp op = CountOp::kKeep);
  void edge(int32_t from, char byte, int32_t to, CountOp op = CountOp::kKeep) {
    edge(from, static_cast<uint8_t>(byte), static_cast<uint8_t>(byte), to, op);
  }
  void call(int32_t from, int32_t rule, int32_t back, CountOp op = CountOp::kKeep) {
    nodes[from].calls.push_back({rule, back, op});
  }
  // New nodes that read `bytes`, from `from`; returns the last.
  int32_t literal(int32_t from, std::string_view bytes);
  // A rule that reads one of these.
  int32_t add_choice(const std::vector<int32_t>& choices);

  // Once complete: sets Node::height of nodes from `first` on. Error if a rule can call itself without reading anything.
  void finish(int32_t first_node, int32_t first_rule);
  bool can_end(int32_t rule) const { return nodes[rules[rule].start].height <= kMaxNesting; }

 private:
  void set_heights(int32_t first_node);
  void check_left_recursion(int32_t first_rule) const;
};

}  // namespace shoal::text
