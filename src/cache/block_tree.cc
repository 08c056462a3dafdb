// SPDX-License-Identifier: Apache-2.0
#include "cache/block_tree.h"

#include <algorithm>

#include "base/error.h"

namespace shoal {

BlockTree::BlockTree(const KvCacheLimits& limits) : limits_(limits), unused_(limits.pools.size() * limits.cp) {}

// --- looking up

bool BlockTree::has_full_pages(const BlockNode& node) const {
  for (size_t pool = 0; pool < node.pages.size(); ++pool)
    if (!limits_.pools[pool].kind.slides() && node.pages[pool].id < 0) return false;
  return true;
}

// Whether a query at `position`, right after these blocks or inside the one after them, finds all that it sees of them.
bool BlockTree::reaches(const std::vector<BlockNode*>& nodes, int64_t position) const {
  for (size_t pool = 0; pool < limits_.pools.size(); ++pool) {
    const KvPoolKind& kind = limits_.pools[pool].kind;
    if (!kind.slides()) continue;
    for (int64_t i = kind.first_seen(position) / limits_.tokens_per_block; i < std::ssize(nodes); ++i)
      if (nodes[i]->pages[pool].id < 0) return false;
  }
  return true;
}

BlockTree::Match BlockTree::match(std::span<const int32_t> tokens, const std::string& salt) const {
  Match match;
  const auto root = roots_.find(salt);
  if (root == roots_.end()) return match;
  const int64_t size = limits_.tokens_per_block;
  const BlockNode* node = root->second.get();
  while (std::ssize(tokens) >= (std::ssize(match.nodes) + 1) * size) {
    const auto key = tokens.subspan(match.nodes.size() * size, size);
    const auto found = node->children.find(std::vector<int32_t>(key.begin(), key.end()));
    if (found == node->children.end() || !has_full_pages(*found->second)) break;
    node = found->second.get();
    match.nodes.push_back(found->second.get());
  }
  if (limits_.partial_reuse) find_partial(tokens.subspan(match.nodes.size() * size), *node, match);
  if (!match.partial) leave_partial(match);
  return match;
}

void BlockTree::leave_partial(Match& match) const {
  match.partial = nullptr;
  match.partial_tokens = 0;
  while (!match.nodes.empty() && !reaches(match.nodes, std::ssize(match.nodes) * limits_.tokens_per_block))
    match.nodes.pop_back();
}

// Children are in lexicographic order, so the one that shares most with `rest` is a neighbour of its place.
void BlockTree::find_partial(std::span<const int32_t> rest, const BlockNode& after, Match& match) const {
  const std::vector<int32_t> key(rest.begin(), rest.begin() + std::min(std::ssize(rest), limits_.tokens_per_block));
  const auto consider = [&](const BlockNode::Children::value_type& item) {
    const auto end = std::mismatch(key.begin(), key.end(), item.first.begin(), item.first.end()).first;
    const int64_t alike = end - key.begin();
    if (alike <= match.partial_tokens) return;
    for (const BlockNode::Page& page : item.second->pages)
      if (page.id < 0) return;
    if (!reaches(match.nodes, std::ssize(match.nodes) * limits_.tokens_per_block + alike)) return;
    match.partial = item.second.get();
    match.partial_tokens = alike;
  };
  const auto next = after.children.lower_bound(key);
  if (next != after.children.end()) consider(*next);
  if (next != after.children.begin()) consider(*std::prev(next));
}

// --- growing

BlockNode* BlockTree::root(const std::string& salt) {
  std::unique_ptr<BlockNode>& root = roots_[salt];
  if (!root) root = std::make_unique<BlockNode>();
  return root.get();
}

BlockNode* BlockTree::child(BlockNode* parent, std::span<const int32_t> tokens) {
  CHECK_EQ(std::ssize(tokens), limits_.tokens_per_block);
  const auto [place, fresh] = parent->children.try_emplace(std::vector<int32_t>(tokens.begin(), tokens.end()));
  if (fresh) {
    place->second = std::make_unique<BlockNode>();
    place->second->parent = parent;
    place->second->place = place;
    place->second->block = parent->block + 1;
    place->second->pages.resize(limits_.pools.size());
  }
  return place->second.get();
}

void BlockTree::let_go(BlockNode* node) {
  CHECK_GT(node->holders, 0);
  --node->holders;
  prune(node);
}

void BlockTree::put(BlockNode* node, int pool, int32_t id) {
  BlockNode::Page& page = node->pages[pool];
  CHECK(page.id < 0 && page.users == 0);
  page = {.id = id, .users = 1};
}

void BlockTree::use(BlockNode* node, int pool) {
  BlockNode::Page& page = node->pages[pool];
  CHECK_GE(page.id, 0);
  if (page.users++ == 0) CHECK_EQ(unused_of(*node, pool).erase(page.unused_since), 1u);
}

void BlockTree::unuse(BlockNode* node, int pool) {
  BlockNode::Page& page = node->pages[pool];
  CHECK(page.id >= 0 && page.users > 0);
  if (--page.users > 0) return;
  page.unused_since = ++clock_;
  unused_of(*node, pool).emplace(page.unused_since, node);
}

// --- shrinking

void BlockTree::take_page(BlockNode& node, int pool, std::vector<EvictedPage>& taken) {
  BlockNode::Page& page = node.pages[pool];
  if (page.id < 0) return;
  CHECK_EQ(page.users, 0);
  CHECK_EQ(unused_of(node, pool).erase(page.unused_since), 1u);
  taken.push_back({pool, static_cast<int>(node.block % limits_.cp), page.id});
  page = {};
}

void BlockTree::take_below(BlockNode& node, std::vector<EvictedPage>& taken) {
  for (const auto& [tokens, child] : node.children) take_below(*child, taken);
  for (const auto& [tokens, child] : node.children) CHECK_EQ(child->holders, 0);
  node.children.clear();
  for (size_t pool = 0; pool < node.pages.size(); ++pool) take_page(node, static_cast<int>(pool), taken);
}

std::vector<EvictedPage> BlockTree::evict(int pool, int space) {
  Unused& unused = unused_[pool * limits_.cp + space];
  CHECK(!unused.empty());
  BlockNode& node = *unused.begin()->second;
  std::vector<EvictedPage> taken;
  if (limits_.pools[pool].kind.slides()) {
    take_page(node, pool, taken);
  } else {
    take_below(node, taken);
  }
  prune(&node);
  return taken;
}

bool BlockTree::idle_leaf(const BlockNode& node) {
  const bool used =
      std::any_of(node.pages.begin(), node.pages.end(), [](const BlockNode::Page& page) { return page.users > 0; });
  return !used && node.children.empty() && node.holders == 0;
}

std::vector<EvictedPage> BlockTree::remove_leaf(BlockNode* node) {
  CHECK(idle_leaf(*node));
  std::vector<EvictedPage> taken;
  take_below(*node, taken);
  prune(node);
  return taken;
}

std::vector<EvictedPage> BlockTree::clear() {
  std::vector<EvictedPage> taken;
  for (size_t i = 0; i < unused_.size(); ++i) {
    const int pool = static_cast<int>(i) / limits_.cp, space = static_cast<int>(i) % limits_.cp;
    while (!unused_[i].empty()) {
      const std::vector<EvictedPage> more = evict(pool, space);
      taken.insert(taken.end(), more.begin(), more.end());
    }
  }
  return taken;
}

void BlockTree::prune(BlockNode* node) {
  while (node->holders == 0 && node->children.empty()) {
    const bool pages =
        std::any_of(node->pages.begin(), node->pages.end(), [](const BlockNode::Page& page) { return page.id >= 0; });
    if (pages) return;
    BlockNode* parent = node->parent;
    if (!parent) {
      std::erase_if(roots_, [&](const auto& item) { return item.second.get() == node; });
      return;
    }
    parent->children.erase(node->place);
    node = parent;
  }
}

}  // namespace shoal
