// SPDX-License-Identifier: Apache-2.0
// Pools of KV pages: layers of one kind (all positions; a sliding window; chunks; MLA's latents) share page ids, kinds do not, so that
// pages which slid out of a window can be given back while layers that see everything keep theirs. Values only.
//
// With `cp` context-parallel ranks, block b of a sequence lives on rank b mod cp, in every pool: each (pool, cp rank) is a space of page
// ids of its own, [0, pages), and entry b of a block table is an id in the space of rank b mod cp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace shoal {

// What queries of a pool's layers see of their past.
struct KvPoolKind {
  int64_t window = 0;   // > 0: the last `window` positions, the query's own included
  int64_t chunk = 0;    // > 0: positions of the query's own multiple of `chunk`
  bool latent = false;  // MLA's compressed rows

  bool operator==(const KvPoolKind&) const = default;
  bool slides() const { return window > 0 || chunk > 0; }
  // The first position that a query at `position`, or any later one, sees.
  int64_t first_seen(int64_t position) const {
    int64_t first = 0;
    if (window > 0) first = std::max(first, position - window + 1);
    if (chunk > 0) first = std::max(first, position / chunk * chunk);
    return first;
  }
  // Most blocks that one sequence of `length` positions holds at a time, if no step takes more than `rows` of them.
  int64_t most_blocks(int64_t length, int64_t rows, int64_t tokens_per_block) const {
    const int64_t all = (length + tokens_per_block - 1) / tokens_per_block;
    if (!slides()) return all;
    const int64_t seen = window > 0 && chunk > 0 ? std::min(window, chunk) : std::max(window, chunk);
    return std::min(all, (seen + rows - 2 + tokens_per_block - 1) / tokens_per_block + 1);
  }
};

struct KvPoolSize {
  KvPoolKind kind;
  int64_t pages = 0;  // on each context-parallel rank
};

// The first `tokens` rows of page `from` are to be copied to page `to`, in each layer of the pool, before the step writes anything.
struct PageCopy {
  int32_t from = -1;
  int32_t to = -1;
  int64_t tokens = 0;
  int space = 0;  // cp rank whose pages these are
};

struct KvCacheLimits {
  int64_t tokens_per_block = 32;
  int cp = 1;
  std::vector<KvPoolSize> pools;
  bool reuse = true;                  // keep the pages of ended sequences for others that begin alike
  bool partial_reuse = true;          // a block of which only the beginning is alike, too
  bool copy_on_partial_reuse = true;  // by copying it; else only where nobody needs it any more
};

}  // namespace shoal
