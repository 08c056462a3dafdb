// SPDX-License-Identifier: Apache-2.0
// Inside of Grammar: an automaton and its token tables. Private to grammar/ and to what composes grammars (tool_grammar.cc).
#pragma once

#include <memory>

#include "text/grammar/automaton.h"
#include "text/grammar/json_rules.h"
#include "text/grammar/stacks.h"
#include "text/grammar/token_table.h"
#include "text/grammar/token_trie.h"

namespace shoal {

namespace text {

// What all grammars of one tokenizer share: its tokens, the rules of JSON and their tables.
struct GrammarBase {
  explicit GrammarBase(const Tokenizer& of)
      : tokenizer(of), trie(of), json(automaton), tables(automaton, trie, size_t{64} << 20) {}

  Tokenizer tokenizer;
  TokenTrie trie;
  Automaton automaton;
  JsonRules json;
  TokenTables tables;
};

}  // namespace text

class Grammar {
 public:
  Grammar(std::shared_ptr<const text::GrammarBase> shared, text::Automaton complete)
      : base(std::move(shared)), automaton(std::move(complete)), tables_(automaton, base->trie, size_t{64} << 20) {}

  std::shared_ptr<const text::TokenTable> table(int32_t node, int nesting_left) const {
    const text::TokenTables& tables = node < base->json.node_count ? base->tables : tables_;
    return tables.find(node, static_cast<int16_t>(nesting_left));
  }

  const std::shared_ptr<const text::GrammarBase> base;
  const text::Automaton automaton;

 private:
  text::TokenTables tables_;
};

}  // namespace shoal
