// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/pattern.h"

#include <algorithm>
#include <map>

#include "text/grammar/pattern_parser.h"
#include "text/utf8.h"

namespace shoal::text {
namespace {

using Kind = PatternTree::Kind;
// A string is read as: begin, its bytes, end; ^ and $ read these.
constexpr int kBeginSymbol = 256, kEndSymbol = 257;
constexpr int32_t kMaxNfaNodes = 100'000;
constexpr int64_t kMaxWork = 30'000'000;  // edges looked at while states are made

struct NfaEdge {
  int low, high;
  int32_t to;
};

struct NfaNode {
  std::vector<NfaEdge> edges;
  std::vector<int32_t> free;  // nodes reached without reading
};

class Nfa {
 public:
  explicit Nfa(const PatternTree& tree) {
    end_ = add();
    nodes_[end_].edges.push_back({0, kEndSymbol, end_});
    start_ = add();
    nodes_[start_].edges.push_back({0, kEndSymbol, start_});
    const int32_t first = build(tree, end_);
    nodes_[start_].free.push_back(first);
  }

  const NfaNode& node(int32_t id) const { return nodes_[id]; }
  int32_t start() const { return start_; }
  int32_t end() const { return end_; }
  size_t size() const { return nodes_.size(); }

 private:
  int32_t add() {
    if (std::ssize(nodes_) >= kMaxNfaNodes) too_many_states();
    nodes_.emplace_back();
    return static_cast<int32_t>(nodes_.size()) - 1;
  }

  // The node from which `tree` leads to `next`.
  int32_t build(const PatternTree& tree, int32_t next) {
    switch (tree.kind) {
      case Kind::kClass:
        return build_class(tree.ranges, next);
      case Kind::kBegin:
        return edge_to(kBeginSymbol, kBeginSymbol, next);
      case Kind::kEnd:
        return edge_to(kEndSymbol, kEndSymbol, next);
      case Kind::kRepeat:
        return build_repeat(tree, next);
      case Kind::kSequence:
        for (size_t i = tree.parts.size(); i-- > 0;) next = build(tree.parts[i], next);
        return next;
      case Kind::kChoice:
        break;
    }
    std::vector<int32_t> starts;
    for (const PatternTree& part : tree.parts) starts.push_back(build(part, next));
    const int32_t choice = add();
    nodes_[choice].free = std::move(starts);
    return choice;
  }

  int32_t build_repeat(const PatternTree& tree, int32_t next) {
    const PatternTree& part = tree.parts.front();
    if (tree.most == PatternTree::kForever) {
      const int32_t loop = add();
      const int32_t again = build(part, loop);
      nodes_[loop].free = {again, next};
      next = loop;
    } else {
      const int32_t after = next;
      for (int32_t i = tree.least; i < tree.most; ++i) {
        const int32_t one = build(part, next);
        next = add();
        nodes_[next].free = {one, after};
      }
    }
    for (int32_t i = 0; i < tree.least; ++i) next = build(part, next);
    return next;
  }

  int32_t edge_to(int low, int high, int32_t next) {
    const int32_t node = add();
    nodes_[node].edges.push_back({low, high, next});
    return node;
  }

  int32_t build_class(const std::vector<CodeRange>& ranges, int32_t next) {
    const int32_t node = add();
    for (const CodeRange& range : ranges) add_range(node, range.low, range.high, next);
    return node;
  }

  // Splits a range where the length of its encoding changes, and where a byte's tail is not the whole of what may follow.
  void add_range(int32_t from, char32_t low, char32_t high, int32_t next) {
    for (const char32_t last : {0x7Fu, 0x7FFu, 0xFFFFu}) {
      if (low > last || high <= last) continue;
      add_range(from, low, last, next);
      add_range(from, last + 1, high, next);
      return;
    }
    std::string first, last;
    append_code_point(low, first);
    append_code_point(high, last);
    for (size_t tail = 1; tail < first.size(); ++tail) {
      const char32_t mask = (char32_t{1} << (6 * tail)) - 1;
      if ((low & ~mask) == (high & ~mask)) continue;
      if ((low & mask) != 0) return add_two(from, low, low | mask, high, next);
      if ((high & mask) != mask) return add_two(from, low, (high & ~mask) - 1, high, next);
    }
    for (size_t i = 0; i < first.size(); ++i) {
      const bool is_last = i + 1 == first.size();
      const int32_t to = is_last ? next : add();
      nodes_[from].edges.push_back({static_cast<uint8_t>(first[i]), static_cast<uint8_t>(last[i]), to});
      from = to;
    }
  }
  void add_two(int32_t from, char32_t low, char32_t middle, char32_t high, int32_t next) {
    add_range(from, low, middle, next);
    add_range(from, middle + 1, high, next);
  }

  std::vector<NfaNode> nodes_;
  int32_t start_ = 0, end_ = 0;
};

// Subset construction (Rabin and Scott 1959), over ranges of symbols between which nothing changes.
class Determiniser {
 public:
  explicit Determiniser(const Nfa& nfa) : nfa_(nfa), stamp_(nfa.size(), 0) {}

  ByteDfa run() {
    id_of(read(closure({nfa_.start()}), kBeginSymbol));
    for (size_t at = 0; at < sets_.size(); ++at) {
      if (std::ssize(sets_) > ByteDfa::kMaxStates) too_many_states();
      const Set set = sets_[at];
      ByteDfa::State state;
      const Set after_end = read(set, kEndSymbol);
      state.accepts = std::binary_search(after_end.begin(), after_end.end(), nfa_.end());
      for (const auto& [low, high] : pieces(set)) {
        const Set next = read(set, low);
        if (next.empty()) continue;
        const int32_t id = id_of(next);
        for (int byte = low; byte <= high; ++byte) state.next[byte] = id;
      }
      dfa_.states.push_back(state);
    }
    return std::move(dfa_);
  }

 private:
  using Set = std::vector<int32_t>;

  int32_t id_of(const Set& set) {
    const auto [found, is_new] = ids_.try_emplace(set, static_cast<int32_t>(sets_.size()));
    if (is_new) sets_.push_back(set);
    return found->second;
  }

  Set closure(Set todo) {
    ++round_;
    Set set;
    while (!todo.empty()) {
      const int32_t id = todo.back();
      todo.pop_back();
      if (stamp_[id] == round_) continue;
      stamp_[id] = round_;
      count_work();
      if (!nfa_.node(id).edges.empty()) set.push_back(id);
      for (const int32_t next : nfa_.node(id).free) todo.push_back(next);
    }
    if (stamp_[nfa_.end()] == round_) return {nfa_.end()};  // whatever follows matches
    std::sort(set.begin(), set.end());
    return set;
  }

  Set read(const Set& set, int symbol) {
    Set next;
    for (const int32_t id : set)
      for (const NfaEdge& edge : nfa_.node(id).edges) {
        count_work();
        if (symbol >= edge.low && symbol <= edge.high) next.push_back(edge.to);
      }
    return closure(std::move(next));
  }

  std::vector<std::pair<int, int>> pieces(const Set& set) {
    std::array<bool, 257> cut{};
    cut[0] = cut[256] = true;
    for (const int32_t id : set)
      for (const NfaEdge& edge : nfa_.node(id).edges) {
        if (edge.low < 256) cut[edge.low] = true;
        if (edge.high < 256) cut[edge.high + 1] = true;
      }
    std::vector<std::pair<int, int>> list;
    for (int low = 0; low < 256;) {
      int next = low + 1;
      while (!cut[next]) ++next;
      list.emplace_back(low, next - 1);
      low = next;
    }
    return list;
  }

  void count_work() {
    if (++work_ > kMaxWork) too_many_states();
  }

  const Nfa& nfa_;
  ByteDfa dfa_;
  std::map<Set, int32_t> ids_;
  std::vector<Set> sets_;
  std::vector<uint32_t> stamp_;
  uint32_t round_ = 0;
  int64_t work_ = 0;
};

}  // namespace

ByteDfa pattern_dfa(std::string_view pattern) {
  const PatternTree tree = parse_pattern(pattern);
  const Nfa nfa(tree);
  return Determiniser(nfa).run();
}

}  // namespace shoal::text
