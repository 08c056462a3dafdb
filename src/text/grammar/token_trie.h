// SPDX-License-Identifier: Apache-2.0
// The tokens of a vocabulary by their bytes: a trie in preorder, so that a subtree is a range and is skipped in one step.
// Invariants: immutable; special tokens and tokens without bytes are not in it; tokens of the same bytes hang together.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace shoal::text {

class TokenTrie {
 public:
  // Node 0 is the root, which has no byte.
  struct Node {
    int32_t end = 0;     // index behind the last node below this one
    int32_t token = -1;  // whose bytes end here; more of them by `same_bytes`
    uint8_t byte = 0;
    uint8_t depth = 0;
  };

  explicit TokenTrie(const Tokenizer& tokenizer);

  const std::vector<Node>& nodes() const { return nodes_; }
  // Calls visit(token) for each token whose bytes end at the node.
  template <typename Visit>
  void for_each_token(const Node& node, const Visit& visit) const {
    for (int32_t token = node.token; token >= 0; token = same_bytes_[token]) visit(token);
  }
  // Empty for special tokens and ids that are no token.
  std::string_view bytes(int32_t token) const {
    if (token < 0 || token >= token_count()) return {};
    return std::string_view(arena_).substr(begins_[token], begins_[token + 1] - begins_[token]);
  }
  int32_t token_count() const { return static_cast<int32_t>(same_bytes_.size()); }

 private:
  void add(std::string_view bytes, int32_t token, std::vector<int32_t>& path);

  std::vector<Node> nodes_;
  std::vector<int32_t> same_bytes_;  // token -> the next one of the same bytes, or -1
  std::string arena_;
  std::vector<size_t> begins_;
};

}  // namespace shoal::text
