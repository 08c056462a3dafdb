// SPDX-License-Identifier: Apache-2.0
// BlockTree: which cached pages hold which tokens. A node is one whole block of tokens after the blocks of its ancestors (a radix tree
// with a block as its letter; the idea of RadixAttention, Zheng et al. 2024, on pages), with a page for each pool that still has it.
// Requests with different salts share no node.
// Invariants:
//   - a page in the tree has a count of sequences that use it; pages without users are kept until their space is needed, the one
//     unused for longest first. Ancestors are used at least as recently as their descendants, so within one space leaves go first;
//   - in a pool that does not slide, a node without a page has no descendants: losing such a page removes the node and all below;
//   - a node lives while it has a page, a child, or a sequence that may add a child.
// Not here: block tables of sequences and free pages (kv_cache.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/kv_pools.h"

namespace shoal {

struct BlockNode {
  struct Page {
    int32_t id = -1;
    int32_t users = 0;
    int64_t unused_since = 0;  // meaningful while users == 0
  };
  using Children = std::map<std::vector<int32_t>, std::unique_ptr<BlockNode>>;

  BlockNode* parent = nullptr;
  Children::iterator place;  // in the parent's children
  int64_t block = -1;        // index in its sequences; -1 for a root
  std::vector<Page> pages;   // by pool
  Children children;
  int64_t holders = 0;  // sequences whose deepest node this is
};

// A page that left the tree.
struct EvictedPage {
  int pool = 0;
  int space = 0;
  int32_t id = -1;
};

class BlockTree {
 public:
  explicit BlockTree(const KvCacheLimits& limits);

  // Leading blocks of `tokens` that the tree has, in all pools where a query after them would see them; then a child whose first tokens
  // are alike (null for none).
  struct Match {
    std::vector<BlockNode*> nodes;
    BlockNode* partial = nullptr;
    int64_t partial_tokens = 0;
  };
  Match match(std::span<const int32_t> tokens, const std::string& salt) const;
  // Goes without the partial child, and without the blocks that are then of no use.
  void leave_partial(Match& match) const;

  BlockNode* root(const std::string& salt);
  // The child of `parent` with these tokens, made if need be.
  BlockNode* child(BlockNode* parent, std::span<const int32_t> tokens);
  void hold(BlockNode* node) { ++node->holders; }
  void let_go(BlockNode* node);

  // A page enters the tree with one user.
  void put(BlockNode* node, int pool, int32_t id);
  void use(BlockNode* node, int pool);
  void unuse(BlockNode* node, int pool);

  int64_t unused(int pool, int space) const { return std::ssize(unused_[pool * limits_.cp + space]); }
  // Makes the longest unused page of this space leave, and what is useless without it.
  std::vector<EvictedPage> evict(int pool, int space);
  // Nobody uses its pages, and nothing is below it.
  static bool idle_leaf(const BlockNode& node);
  // Takes an idle leaf out with all its pages: the caller owns them.
  std::vector<EvictedPage> remove_leaf(BlockNode* node);
  // Every page that nobody uses.
  std::vector<EvictedPage> clear();

 private:
  using Unused = std::map<int64_t, BlockNode*>;  // by time
  Unused& unused_of(const BlockNode& node, int pool) { return unused_[pool * limits_.cp + node.block % limits_.cp]; }
  bool has_full_pages(const BlockNode& node) const;
  void find_partial(std::span<const int32_t> rest, const BlockNode& after, Match& match) const;
  bool reaches(const std::vector<BlockNode*>& nodes, int64_t position) const;
  void take_page(BlockNode& node, int pool, std::vector<EvictedPage>& taken);
  void take_below(BlockNode& node, std::vector<EvictedPage>& taken);
  void prune(BlockNode* node);

  KvCacheLimits limits_;
  std::map<std::string, std::unique_ptr<BlockNode>> roots_;
  std::vector<Unused> unused_;  // by pool, space
  int64_t clock_ = 0;
};

}  // namespace shoal
