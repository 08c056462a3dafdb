// SPDX-License-Identifier: Apache-2.0
// KvCache: which KV pages of one attention-DP group hold what: free, owned by one sequence, or cached in the block tree, where any
// number of sequences share them. A page id means the same place on every rank and stage of the group (with context parallelism: of the
// page's cp rank, kv_pools.h). Used by the scheduler's thread only.
//
// Everything here is in the order of planned steps, not of time: a page is given back, shared or copied as soon as the step that is done
// with it (or fills it) has been planned, since every rank runs the steps in that order.
// Invariants:
//   - free + owned + cached == total, in every space;
//   - a sequence with a guarantee never finds its pages missing: the most that all such sequences may hold fits the space, pages that
//     they share counted once (in pools that do not slide);
//   - a sequence gives back exactly what it took, at the latest with end().
// Not here: memory (a Backend's), which sequence goes first (engine/scheduler.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cache/block_tree.h"
#include "cache/page_allocator.h"

namespace shoal {

// One sequence's block tables, by pool. Made by KvCache only.
class KvSequence {
 public:
  // Entry b: page of positions [b * tokens_per_block, ...); -1 where it slid out of sight.
  const std::vector<int32_t>& pages(int pool) const { return tables_[pool]; }
  bool active() const { return !tables_.empty(); }

 private:
  friend class KvCache;
  std::vector<std::vector<int32_t>> tables_;
  std::vector<int64_t> first_held_;  // by pool: blocks before it slid out
  std::vector<BlockNode*> nodes_;    // leading blocks that are in the tree
  std::vector<int64_t> guaranteed_;  // by pool: blocks promised on each cp rank
  BlockNode* root_ = nullptr;
};

struct KvStart {
  std::span<const int32_t> tokens;  // known so far
  std::string salt;                 // sequences share pages with others of the same salt only
  int64_t reusable = 0;             // of them, how many may come from the cache
  int64_t length = 0;               // positions in the end
  int64_t rows = 0;                 // most rows of one step
  bool guarantee = true;            // start only if all its positions are sure to fit; else if `tokens` fit now
};

struct KvCacheStats {
  int64_t queried_tokens = 0;  // of sequences that started: known tokens, of which `reused_tokens` were found
  int64_t reused_tokens = 0;
  int64_t computed_tokens = 0;
  int64_t evicted_pages = 0;
};

class KvCache {
 public:
  explicit KvCache(const KvCacheLimits& limits);

  // Whether a sequence fits when it is alone; if not, in which pool (-1: it does) and how many pages that takes.
  struct Shortage {
    int pool = -1;
    int64_t needed = 0;
  };
  static Shortage shortage(const KvCacheLimits& limits, int64_t length, int64_t rows);

  // Leading tokens that start() would take from the cache now.
  int64_t reusable(std::span<const int32_t> tokens, const std::string& salt) const;
  // Starts an inactive sequence with the longest prefix that can be had; returns its tokens, and adds, by pool, the copies that the next
  // step must make. Nothing is taken if there is no room for it (and, with a guarantee, for the rest).
  std::optional<int64_t> start(KvSequence& sequence, const KvStart& start, std::vector<std::vector<PageCopy>>& copies);
  // Pages for positions [first, end), the next to be written; gives back what slid out of sight of them. False, and none taken, if
  // there are not enough.
  bool reserve(KvSequence& sequence, int64_t first, int64_t end);
  // The step is planned that writes the last of the first `written` tokens: its whole blocks are for others too.
  void publish(KvSequence& sequence, std::span<const int32_t> tokens, int64_t written);
  void end(KvSequence& sequence);
  // Forgets what nobody uses.
  void clear();

  int64_t tokens_per_block() const { return limits_.tokens_per_block; }
  int pools() const { return static_cast<int>(limits_.pools.size()); }
  // Over all pools and cp ranks; in use: owned, or cached with a user.
  int64_t total_pages() const;
  int64_t used_pages() const;
  int64_t cached_pages() const;
  const KvCacheStats& stats() const { return stats_; }

 private:
  struct Space {
    PageAllocator pages;
    int64_t shared = 0;  // users of cached pages beyond the first of each
  };
  Space& space(int pool, int64_t block) { return spaces_[pool * limits_.cp + block % limits_.cp]; }
  const Space& space(int pool, int64_t block) const { return spaces_[pool * limits_.cp + block % limits_.cp]; }
  int64_t available(int pool, int64_t block) const;
  int32_t take_page(int pool, int64_t block);
  void give_back(const std::vector<EvictedPage>& pages);
  void drop_block(KvSequence& sequence, int pool, int64_t block);
  void slide(KvSequence& sequence, int64_t first);
  bool fits(const BlockTree::Match& match, const KvStart& start) const;
  bool fits_now(const BlockTree::Match& match, const KvStart& start) const;
  bool may_take_partial(const BlockTree::Match& match) const;
  int64_t per_space(const KvStart& start, int pool) const;
  void use_match(KvSequence& sequence, const BlockTree::Match& match, int64_t reused);
  void take_partial(KvSequence& sequence, const BlockTree::Match& match, std::vector<std::vector<PageCopy>>& copies);
  void use(BlockNode* node, int pool);

  KvCacheLimits limits_;
  std::vector<Space> spaces_;      // by pool, cp rank
  std::vector<int64_t> promised_;  // by pool: blocks promised on each cp rank
  BlockTree tree_;
  KvCacheStats stats_;
};

}  // namespace shoal
