// SPDX-License-Identifier: Apache-2.0
// TokenTable: which tokens a frame allows by itself, whatever lies below it on the stack, found once by a walk over the token trie and kept.
// Tokens that end the frame midway are kept by what is left of them then, so that only these rests are read with the actual stack.
// After the adaptive token mask cache of XGrammar (Dong et al. 2024), with counters, and rests grouped by their bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <shared_mutex>

#include "text/grammar/stacks.h"
#include "text/grammar/token_trie.h"

namespace shoal::text {

struct TokenTable {
  struct Entry {
    int32_t token;
    Counted counted;
  };
  // The tokens below a node of the token trie, where the frame ended.
  struct Escape {
    int32_t node;
    Counted counted;
  };
  // Rests in preorder, as in TokenTrie; node 0 is the root.
  struct Rest {
    int32_t end = 0;
    uint8_t byte = 0;
    uint8_t depth = 0;
    int32_t first_entry = 0, last_entry = 0;  // into rest_entries
  };

  int16_t nesting = 0;          // valid where at least so much is left
  std::vector<Entry> entries;   // but for those of `dense`
  std::vector<uint64_t> dense;  // many tokens as bits, or empty
  std::vector<uint8_t> counts;  // of the tokens of `dense`, kNever for others; empty if none counts
  uint8_t max_count = 0;        // of `dense`
  std::vector<Escape> escapes;  // where many tokens are below
  std::vector<Rest> rests;      // empty if there are none
  std::vector<Entry> rest_entries;

  size_t bytes() const;
};

TokenTable make_token_table(const Automaton& automaton, const TokenTrie& trie, int32_t node, int16_t nesting_left);

// Tables of one automaton, made when first asked for. Thread-safe.
class TokenTables {
 public:
  TokenTables(const Automaton& automaton, const TokenTrie& trie, size_t max_bytes)
      : automaton_(automaton), trie_(trie), max_bytes_(max_bytes) {}
  std::shared_ptr<const TokenTable> find(int32_t node, int16_t nesting_left) const;

 private:
  std::shared_ptr<const TokenTable> find(uint64_t key, int32_t node, int16_t nesting_left) const;

  const Automaton& automaton_;
  const TokenTrie& trie_;
  size_t max_bytes_;
  mutable std::shared_mutex mutex_;
  mutable std::unordered_map<uint64_t, std::shared_ptr<const TokenTable>> tables_;
  mutable size_t bytes_ = 0;
};

// Sets the bits of the tokens that `way` allows. `stacks` may gain frames; the scratch sets are overwritten.
class MaskFiller {
 public:
  MaskFiller(Stacks& stacks, const TokenTrie& trie) : stacks_(stacks), trie_(trie) {}
  void fill(const Way& way, const TokenTable& table, std::span<uint64_t> words);

 private:
  void fill_own(const Frame& frame, const TokenTable& table, std::span<uint64_t> words) const;
  void fill_rests(const Frame& frame, const TokenTable& table, std::span<uint64_t> words);
  void fill_below(int32_t node, std::span<uint64_t> words);
  Ways& level(size_t depth);

  Stacks& stacks_;
  const TokenTrie& trie_;
  std::vector<Ways> levels_;  // by bytes read; level 0 is where the frame ended
};

}  // namespace shoal::text
