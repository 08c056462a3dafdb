// SPDX-License-Identifier: Apache-2.0
// How context-parallel ranks divide the work on a sequence. Pure.
// Not here: which rank holds which KV pages (tensor/page_share.h), what is exchanged (model/context_parallel.h).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/dim.h"

namespace shoal {

enum class ContextScheme : uint8_t {
  kRing,     // query rows are divided; keys and values travel round the ranks (Liu et al. 2023)
  kUlysses,  // heads are divided; queries, keys and values go to their head's rank (Jacobs et al. 2023)
  kHelix,  // keys stay; every rank attends over its own, then heads are divided and partial results joined (Bhatia et al. 2025)
};

// How rows of either role are computed.
struct ContextSchemes {
  ContextScheme prefill = ContextScheme::kRing;
  ContextScheme decode = ContextScheme::kHelix;
  friend bool operator==(const ContextSchemes&, const ContextSchemes&) = default;
};

// Rows [0, n) in 2 * ranks pieces, as even as whole rows allow; rank i takes pieces i and 2 * ranks - 1 - i (zig-zag). Under a causal mask
// row r sees r + 1 + constant keys, so that a cheap piece comes with a dear one and all ranks do the same work. Pieces may be empty.
// Worked example: 16 rows, 2 ranks: rank 0 has rows 0 to 3 and 12 to 15, rank 1 rows 4 to 7 and 8 to 11: 68 keys each.
std::array<Range, 2> zigzag_rows(int64_t n, int64_t rank, int64_t ranks);

// Sequences [0, pages.size()) in runs whose pages are gathered together; pages[i] of sequence i are read. A run has at most `most` pages,
// and at most ceil(most / ranks) on any rank; a sequence that has more is a run by itself (`most` 0: every one).
// Worked example: pages 3, 1, 1, 5, 2 on 2 ranks, most 6: a rank holds 2, 1, 1, 3, 1 of them, 3 at most: {0, 1}, {2}, {3}, {4}.
std::vector<Range> page_runs(std::span<const int64_t> pages, int64_t most, int64_t ranks);

// The KV heads that query heads `heads` of `all` read, so that the i-th of them reads result[i * result.size() / heads.size()]: each KV
// head once where these heads divide into equal groups, else one entry for each query head.
// Worked example: 8 query heads on 2 KV heads: heads [2, 4) read {0}, heads [2, 5) {0, 0, 1}.
std::vector<int64_t> kv_heads_of(Range heads, int64_t all, int64_t kv_heads);

}  // namespace shoal
