// SPDX-License-Identifier: Apache-2.0
#include "cache/kv_cache.h"

#include <algorithm>

#include "base/error.h"
#include "base/whole.h"

namespace shoal {

KvCache::KvCache(const KvCacheLimits& limits) : limits_(limits), promised_(limits.pools.size()), tree_(limits) {
  CHECK(limits.cp >= 1 && !limits.pools.empty());
  for (const KvPoolSize& pool : limits.pools)
    for (int i = 0; i < limits.cp; ++i) spaces_.push_back({PageAllocator(pool.pages, limits.tokens_per_block)});
}

KvCache::Shortage KvCache::shortage(const KvCacheLimits& limits, int64_t length, int64_t rows) {
  for (size_t pool = 0; pool < limits.pools.size(); ++pool) {
    const KvPoolSize& size = limits.pools[pool];
    const int64_t needed =
        ceil_div(size.kind.most_blocks(length, std::min(rows, length), limits.tokens_per_block), limits.cp);
    if (needed > size.pages) return {static_cast<int>(pool), needed};
  }
  return {};
}

// --- pages

int64_t KvCache::available(int pool, int64_t block) const {
  return space(pool, block).pages.free_pages() + tree_.unused(pool, static_cast<int>(block % limits_.cp));
}

// There must be one available.
int32_t KvCache::take_page(int pool, int64_t block) {
  PageAllocator& pages = space(pool, block).pages;
  if (pages.free_pages() == 0) give_back(tree_.evict(pool, static_cast<int>(block % limits_.cp)));
  std::vector<int32_t> taken;
  CHECK(pages.allocate(1, taken));
  return taken.front();
}

void KvCache::give_back(const std::vector<EvictedPage>& pages) {
  for (const EvictedPage& page : pages) space(page.pool, page.space).pages.release({&page.id, 1});
  stats_.evicted_pages += std::ssize(pages);
}

void KvCache::use(BlockNode* node, int pool) {
  if (node->pages[pool].users > 0) ++space(pool, node->block).shared;
  tree_.use(node, pool);
}

void KvCache::drop_block(KvSequence& sequence, int pool, int64_t block) {
  int32_t& page = sequence.tables_[pool][block];
  if (page < 0) return;
  BlockNode* node = block < std::ssize(sequence.nodes_) ? sequence.nodes_[block] : nullptr;
  if (node) {
    CHECK_EQ(node->pages[pool].id, page);
    if (node->pages[pool].users > 1) --space(pool, block).shared;
    tree_.unuse(node, pool);
  } else {
    space(pool, block).pages.release({&page, 1});
  }
  page = -1;
}

void KvCache::slide(KvSequence& sequence, int64_t first) {
  for (int pool = 0; pool < pools(); ++pool) {
    const int64_t seen = limits_.pools[pool].kind.first_seen(first) / limits_.tokens_per_block;
    const int64_t end = std::min(seen, std::ssize(sequence.tables_[pool]));
    for (int64_t& block = sequence.first_held_[pool]; block < end; ++block) drop_block(sequence, pool, block);
  }
}

bool KvCache::reserve(KvSequence& sequence, int64_t first, int64_t end) {
  slide(sequence, first);
  const int64_t blocks = ceil_div(end, limits_.tokens_per_block);
  for (int pool = 0; pool < pools(); ++pool) {
    const int64_t held = std::ssize(sequence.tables_[pool]);
    for (int64_t block = held; block < std::min(blocks, held + limits_.cp); ++block) {
      const int64_t needed = ceil_div(blocks - block, limits_.cp);  // in this block's space
      if (needed > available(pool, block)) return false;
    }
  }
  for (int pool = 0; pool < pools(); ++pool)
    for (int64_t block = std::ssize(sequence.tables_[pool]); block < blocks; ++block)
      sequence.tables_[pool].push_back(take_page(pool, block));
  stats_.computed_tokens += end - first;
  return true;
}

// --- sequences

int64_t KvCache::reusable(std::span<const int32_t> tokens, const std::string& salt) const {
  if (!limits_.reuse) return 0;
  const BlockTree::Match match = tree_.match(tokens, salt);
  return std::ssize(match.nodes) * limits_.tokens_per_block + match.partial_tokens;
}

int64_t KvCache::per_space(const KvStart& start, int pool) const {
  const int64_t rows = std::min(start.rows, start.length);
  const KvPoolKind& kind = limits_.pools[pool].kind;
  return ceil_div(kind.most_blocks(start.length, rows, limits_.tokens_per_block), limits_.cp);
}

// What all promised sequences may hold fits, if a page that n of them share counts once. In a pool that slides a sharer may leave
// early and owe a page again, so that there each counts in full.
bool KvCache::fits(const BlockTree::Match& match, const KvStart& start) const {
  for (int pool = 0; pool < pools(); ++pool) {
    const bool slides = limits_.pools[pool].kind.slides();
    for (int i = 0; i < limits_.cp; ++i) {
      const Space& space = spaces_[pool * limits_.cp + i];
      int64_t shared = slides ? 0 : space.shared;
      for (const BlockNode* node : match.nodes)
        shared += !slides && node->block % limits_.cp == i && node->pages[pool].users > 0;
      if (promised_[pool] + per_space(start, pool) > space.pages.total_pages() + shared) return false;
    }
  }
  return true;
}

// Pages for what is known of it are available, after its matched ones are in use.
bool KvCache::fits_now(const BlockTree::Match& match, const KvStart& start) const {
  const int64_t known = std::ssize(start.tokens), matched = std::ssize(match.nodes);
  for (int pool = 0; pool < pools(); ++pool) {
    const KvPoolKind& kind = limits_.pools[pool].kind;
    int64_t blocks = kind.most_blocks(known, std::min(start.rows, known), limits_.tokens_per_block);
    if (!kind.slides()) blocks -= matched;
    for (int i = 0; i < limits_.cp; ++i) {
      int64_t left = available(pool, i);
      // In a pool that slides, matched blocks in sight are among `blocks`, and the others are left to eviction.
      for (const BlockNode* node : match.nodes)
        left -= !kind.slides() && node->block % limits_.cp == i && node->pages[pool].users == 0;
      if (left < ceil_div(blocks, limits_.cp)) return false;
    }
  }
  return true;
}

// By copy: one more page in the space of the block after `match`, whose own pages are taken out of reach of eviction. Without: if
// nobody else has any use for it.
bool KvCache::may_take_partial(const BlockTree::Match& match) const {
  if (!limits_.copy_on_partial_reuse) return BlockTree::idle_leaf(*match.partial);
  const int64_t block = std::ssize(match.nodes);
  for (int pool = 0; pool < pools(); ++pool) {
    int64_t unused = match.partial->pages[pool].users == 0;
    for (const BlockNode* node : match.nodes)
      unused += (block - node->block) % limits_.cp == 0 && node->pages[pool].id >= 0 && node->pages[pool].users == 0;
    if (available(pool, block) - unused < 1) return false;
  }
  return true;
}

void KvCache::use_match(KvSequence& sequence, const BlockTree::Match& match, int64_t reused) {
  for (BlockNode* node : match.nodes) sequence.nodes_.push_back(node);
  if (!match.nodes.empty()) {
    tree_.hold(match.nodes.back());
    tree_.let_go(sequence.root_);
  }
  for (int pool = 0; pool < pools(); ++pool) {
    const int64_t seen =
        std::min(limits_.pools[pool].kind.first_seen(reused) / limits_.tokens_per_block, std::ssize(match.nodes));
    sequence.first_held_[pool] = seen;
    for (const BlockNode* node : match.nodes)
      sequence.tables_[pool].push_back(node->block < seen ? -1 : node->pages[pool].id);
    for (int64_t block = seen; block < std::ssize(match.nodes); ++block) use(match.nodes[block], pool);
  }
}

void KvCache::take_partial(KvSequence& sequence, const BlockTree::Match& match,
                           std::vector<std::vector<PageCopy>>& copies) {
  const int64_t block = std::ssize(match.nodes);
  if (!limits_.copy_on_partial_reuse) {
    for (const EvictedPage& page : tree_.remove_leaf(match.partial)) sequence.tables_[page.pool].push_back(page.id);
    return;
  }
  for (int pool = 0; pool < pools(); ++pool) use(match.partial, pool);  // not evicted meanwhile
  for (int pool = 0; pool < pools(); ++pool) {
    const int32_t page = take_page(pool, block);
    sequence.tables_[pool].push_back(page);
    copies[pool].push_back({.from = match.partial->pages[pool].id,
                            .to = page,
                            .tokens = match.partial_tokens,
                            .space = static_cast<int>(block % limits_.cp)});
  }
  for (int pool = 0; pool < pools(); ++pool) {
    if (match.partial->pages[pool].users > 1) --space(pool, block).shared;
    tree_.unuse(match.partial, pool);
  }
}

std::optional<int64_t> KvCache::start(KvSequence& sequence, const KvStart& start,
                                      std::vector<std::vector<PageCopy>>& copies) {
  CHECK(!sequence.active());
  BlockTree::Match match;
  if (limits_.reuse) match = tree_.match(start.tokens.first(start.reusable), start.salt);
  if (match.partial && !may_take_partial(match)) tree_.leave_partial(match);
  if (!(start.guarantee ? fits(match, start) : fits_now(match, start))) return std::nullopt;
  const int64_t blocks = std::ssize(match.nodes);
  const int64_t reused = blocks * limits_.tokens_per_block + (match.partial ? match.partial_tokens : 0);
  sequence.tables_.resize(pools());
  sequence.first_held_.assign(pools(), 0);
  sequence.guaranteed_.assign(pools(), 0);
  sequence.root_ = tree_.root(start.salt);
  tree_.hold(sequence.root_);
  use_match(sequence, match, reused);
  copies.resize(pools());
  if (match.partial) take_partial(sequence, match, copies);
  if (start.guarantee) {
    for (int pool = 0; pool < pools(); ++pool) {
      sequence.guaranteed_[pool] = per_space(start, pool);
      promised_[pool] += sequence.guaranteed_[pool];
    }
  }
  stats_.queried_tokens += std::ssize(start.tokens);
  stats_.reused_tokens += reused;
  return reused;
}

void KvCache::publish(KvSequence& sequence, std::span<const int32_t> tokens, int64_t written) {
  if (!limits_.reuse) return;
  const int64_t size = limits_.tokens_per_block;
  for (int64_t block = std::ssize(sequence.nodes_); (block + 1) * size <= written; ++block) {
    BlockNode* tip = block > 0 ? sequence.nodes_.back() : sequence.root_;
    BlockNode* node = tree_.child(tip, tokens.subspan(block * size, size));
    tree_.hold(node);
    tree_.let_go(tip);
    for (int pool = 0; pool < pools(); ++pool) {
      int32_t& page = sequence.tables_[pool][block];
      if (page < 0) continue;
      if (node->pages[pool].id < 0) {
        tree_.put(node, pool, page);
        continue;
      }
      // Somebody was faster; what both computed is the same.
      space(pool, block).pages.release({&page, 1});
      use(node, pool);
      page = node->pages[pool].id;
    }
    sequence.nodes_.push_back(node);
  }
}

void KvCache::end(KvSequence& sequence) {
  if (!sequence.active()) return;
  for (int pool = 0; pool < pools(); ++pool) {
    for (int64_t block = std::ssize(sequence.tables_[pool]) - 1; block >= 0; --block) drop_block(sequence, pool, block);
    promised_[pool] -= sequence.guaranteed_[pool];
  }
  tree_.let_go(sequence.nodes_.empty() ? sequence.root_ : sequence.nodes_.back());
  sequence = KvSequence();
}

void KvCache::clear() { give_back(tree_.clear()); }

// --- counts

int64_t KvCache::total_pages() const {
  int64_t sum = 0;
  for (const Space& space : spaces_) sum += space.pages.total_pages();
  return sum;
}

int64_t KvCache::cached_pages() const {
  int64_t sum = 0;
  for (int pool = 0; pool < pools(); ++pool)
    for (int i = 0; i < limits_.cp; ++i) sum += tree_.unused(pool, i);
  return sum;
}

int64_t KvCache::used_pages() const {
  int64_t sum = -cached_pages();
  for (const Space& space : spaces_) sum += space.pages.used_pages();
  return sum;
}

}  // namespace shoal
