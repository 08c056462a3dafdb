// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/token_table.h"

#include <algorithm>
#include <mutex>

namespace shoal::text {
namespace {

constexpr uint8_t kNever = 255;
constexpr size_t kDenseFrom = 256;   // tokens; fewer are cheaper as a list
constexpr int32_t kSmallBelow = 64;  // trie nodes below an escape that are copied into rests

void set_bit(std::span<uint64_t> words, int32_t token) {
  const auto word = static_cast<size_t>(token) / 64;
  if (word < words.size()) words[word] |= uint64_t{1} << (token % 64);
}

class TableBuilder {
 public:
  TableBuilder(const Automaton& automaton, const TokenTrie& trie, int32_t node, int16_t nesting_left)
      : automaton_(automaton), trie_(trie), stacks_(automaton), node_(node) {
    stacks_.limit = nesting_left;
  }

  TokenTable build() {
    for (const TokenEdge& edge : automaton_.nodes[node_].tokens) table_.entries.push_back({edge.token, {}});
    walk();
    make_dense();
    make_rests();
    table_.nesting = stacks_.asked;
    return std::move(table_);
  }

 private:
  struct RestOfToken {
    std::string_view bytes;
    TokenTable::Entry entry;
  };

  void walk() {
    const std::vector<TokenTrie::Node>& nodes = trie_.nodes();
    std::vector<Ways> levels(256);
    levels[0].tops.push_back({.frame = {.node = node_}, .below = kOpenBelow, .depth = 0, .counted = {}});
    for (int32_t at = 1; at < std::ssize(nodes);) {
      const TokenTrie::Node& node = nodes[at];
      Ways& ways = levels[node.depth];
      stacks_.step(levels[node.depth - 1], node.byte, ways);
      if (!ways.none()) take(at, node, ways);
      at = ways.tops.empty() ? node.end : at + 1;
    }
  }

  void take(int32_t at, const TokenTrie::Node& node, const Ways& ways) {
    if (node.token >= 0) {
      std::vector<Counted> distinct;
      const auto add = [&](Counted counted) {
        if (std::find(distinct.begin(), distinct.end(), counted) == distinct.end()) distinct.push_back(counted);
      };
      for (const Way& way : ways.tops) add(way.counted);
      for (const Counted counted : ways.escapes) add(counted);
      trie_.for_each_token(node, [&](int32_t token) {
        for (const Counted counted : distinct) table_.entries.push_back({token, counted});
      });
    }
    if (at + 1 == node.end) return;
    for (const Counted counted : ways.escapes) {
      if (node.end - at > kSmallBelow) {
        table_.escapes.push_back({at, counted});
        continue;
      }
      for (int32_t below = at + 1; below < node.end; ++below)
        trie_.for_each_token(trie_.nodes()[below], [&](int32_t token) {
          rests_.push_back({trie_.bytes(token).substr(node.depth), {token, counted}});
        });
    }
  }

  void make_dense() {
    const auto open = [](const TokenTable::Entry& entry) { return !entry.counted.closed; };
    const auto count = std::count_if(table_.entries.begin(), table_.entries.end(), open);
    if (count < static_cast<int64_t>(kDenseFrom)) return;
    table_.dense.assign((trie_.token_count() + 63) / 64, 0);
    table_.counts.assign(trie_.token_count(), kNever);
    for (const TokenTable::Entry& entry : table_.entries) {
      if (!open(entry)) continue;
      set_bit(table_.dense, entry.token);
      uint8_t& least = table_.counts[entry.token];
      least = std::min(least, entry.counted.count);
    }
    for (const uint8_t least : table_.counts)
      if (least != kNever) table_.max_count = std::max(table_.max_count, least);
    if (table_.max_count == 0) table_.counts = {};
    std::erase_if(table_.entries, open);
    table_.entries.shrink_to_fit();
  }

  void make_rests() {
    if (rests_.empty()) return;
    std::stable_sort(rests_.begin(), rests_.end(),
                     [](const RestOfToken& a, const RestOfToken& b) { return a.bytes < b.bytes; });
    std::vector<TokenTable::Rest>& nodes = table_.rests;
    nodes.emplace_back();
    std::vector<int32_t> path = {0};
    const auto leave = [&](size_t depth) {
      for (; path.size() > depth + 1; path.pop_back()) nodes[path.back()].end = static_cast<int32_t>(nodes.size());
    };
    std::string_view last;
    for (const RestOfToken& rest : rests_) {
      const auto [mine, other] = std::mismatch(rest.bytes.begin(), rest.bytes.end(), last.begin(), last.end());
      leave(mine - rest.bytes.begin());
      const auto entry = static_cast<int32_t>(table_.rest_entries.size());
      while (path.size() <= rest.bytes.size()) {
        const size_t depth = path.size();
        path.push_back(static_cast<int32_t>(nodes.size()));
        nodes.push_back({.byte = static_cast<uint8_t>(rest.bytes[depth - 1]),
                         .depth = static_cast<uint8_t>(depth),
                         .first_entry = entry,
                         .last_entry = entry});
      }
      nodes[path.back()].last_entry = entry + 1;
      table_.rest_entries.push_back(rest.entry);
      last = rest.bytes;
    }
    leave(0);
    nodes[0].end = static_cast<int32_t>(nodes.size());
  }

  const Automaton& automaton_;
  const TokenTrie& trie_;
  Stacks stacks_;
  int32_t node_;
  TokenTable table_;
  std::vector<RestOfToken> rests_;
};

}  // namespace

size_t TokenTable::bytes() const {
  return sizeof(*this) + entries.size() * sizeof(Entry) + dense.size() * 8 + counts.size() +
         escapes.size() * sizeof(Escape) + rests.size() * sizeof(Rest) + rest_entries.size() * sizeof(Entry);
}

TokenTable make_token_table(const Automaton& automaton, const TokenTrie& trie, int32_t node, int16_t nesting_left) {
  return TableBuilder(automaton, trie, node, nesting_left).build();
}

std::shared_ptr<const TokenTable> TokenTables::find(int32_t node, int16_t nesting_left) const {
  constexpr int16_t kPlenty = 1024;  // more than any token asks for
  const uint64_t key = static_cast<uint64_t>(node) << 16;
  auto table = find(key | kPlenty, node, kPlenty);
  return table->nesting <= nesting_left ? table : find(key | static_cast<uint16_t>(nesting_left), node, nesting_left);
}

std::shared_ptr<const TokenTable> TokenTables::find(uint64_t key, int32_t node, int16_t nesting_left) const {
  {
    const std::shared_lock lock(mutex_);
    const auto found = tables_.find(key);
    if (found != tables_.end()) return found->second;
  }
  const auto table = std::make_shared<const TokenTable>(make_token_table(automaton_, trie_, node, nesting_left));
  const std::unique_lock lock(mutex_);
  if (bytes_ + table->bytes() > max_bytes_) return table;
  const auto [at, is_new] = tables_.emplace(key, table);
  if (is_new) bytes_ += table->bytes();
  return at->second;
}

Ways& MaskFiller::level(size_t depth) {
  if (levels_.size() <= depth) levels_.resize(256);
  return levels_[depth];
}

void MaskFiller::fill(const Way& way, const TokenTable& table, std::span<uint64_t> words) {
  fill_own(way.frame, table, words);
  if (way.below == kRootBelow || (table.escapes.empty() && table.rests.empty())) return;
  Ways& ended = level(0);
  stacks_.begin(ended);
  stacks_.pop(way.below, {}, ended);
  if (ended.tops.empty()) return;
  for (const TokenTable::Escape& escape : table.escapes)
    if (escape.counted.fits(way.frame)) fill_below(escape.node, words);
  fill_rests(way.frame, table, words);
}

void MaskFiller::fill_own(const Frame& frame, const TokenTable& table, std::span<uint64_t> words) const {
  for (const TokenTable::Entry& entry : table.entries)
    if (entry.counted.fits(frame)) set_bit(words, entry.token);
  if (table.dense.empty()) return;
  const size_t count = std::min(words.size(), table.dense.size());
  if (frame.room >= table.max_count) {
    for (size_t i = 0; i < count; ++i) words[i] |= table.dense[i];
    return;
  }
  const auto room = static_cast<uint8_t>(frame.room);
  for (size_t i = 0; i < count; ++i) {
    const size_t first = 64 * i, last = std::min<size_t>(table.counts.size(), first + 64);
    uint64_t bits = 0;
    for (size_t token = first; token < last; ++token) bits |= uint64_t{table.counts[token] <= room} << (token - first);
    words[i] |= bits;
  }
}

void MaskFiller::fill_rests(const Frame& frame, const TokenTable& table, std::span<uint64_t> words) {
  for (int32_t at = 1; at < std::ssize(table.rests);) {
    const TokenTable::Rest& rest = table.rests[at];
    const Ways& from = levels_[rest.depth - 1];
    Ways& to = level(rest.depth);
    stacks_.step(from, rest.byte, to);
    if (!to.none())
      for (int32_t i = rest.first_entry; i < rest.last_entry; ++i) {
        const TokenTable::Entry& entry = table.rest_entries[i];
        if (entry.counted.fits(frame)) set_bit(words, entry.token);
      }
    at = to.tops.empty() ? rest.end : at + 1;
  }
}

// With level 0 at the trie's node.
void MaskFiller::fill_below(int32_t node, std::span<uint64_t> words) {
  const std::vector<TokenTrie::Node>& nodes = trie_.nodes();
  const int32_t end = nodes[node].end;
  const uint8_t depth = nodes[node].depth;
  for (int32_t at = node + 1; at < end;) {
    const TokenTrie::Node& below = nodes[at];
    Ways& to = level(below.depth - depth);
    stacks_.step(levels_[below.depth - depth - 1], below.byte, to);
    if (!to.none()) trie_.for_each_token(below, [&](int32_t token) { set_bit(words, token); });
    at = to.tops.empty() ? below.end : at + 1;
  }
}

}  // namespace shoal::text
