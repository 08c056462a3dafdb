// SPDX-License-Identifier: Apache-2.0
// The two products of attention_pairs.h for few rows, the same bits: no panels, whose stores would take most of the time; keys that are turned
// and values that are interleaved go straight into the sums. For attention_<path>.cc only.
#pragma once

#include "backend/cpu/attention_pairs.h"

#if defined(SHOAL_ISA_AVX512BF16)

namespace shoal::SHOAL_ISA {
namespace {

static_assert(kFewRows == 4);  // sums of so many stay in registers beside sixteen keys

SHOAL_INLINE void add_pair(F32x16& sum, uint32_t x, F32x16 words) {
  sum.v = _mm512_dpbf16_ps(sum.v, (__m512bh)_mm512_set1_epi32(static_cast<int>(x)), (__m512bh)words.v);
}

// sums[r] += the dot products of the next `Pairs` pairs of columns of row r with sixteen keys; rows are `pairs` apart.
template <int Rows, int Pairs>
SHOAL_INLINE void add_scores(const uint32_t* queries, int64_t pairs, const F32x16 (&words)[16], F32x16 (&sums)[Rows]) {
#pragma GCC unroll 16
  for (int i = 0; i < Pairs; ++i) {
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) add_pair(sums[r], queries[r * pairs + i], words[i]);
  }
}

// As score_pairs: sixteens of keys by twos, so that the chains of one are added to while those of the other are waited for.
template <int Rows>
inline void score_few(const uint32_t* queries, const Block<uint16_t>& block, int64_t dim, Visible seen, Fetch& ahead,
                      float* scores) {
  const int64_t pairs = pairs_of(dim);
  for (int64_t key = seen.begin / 32 * 32; key < seen.end; key += 32) {
    F32x16 sums[2][Rows];
    for (auto& sixteen : sums)
      for (F32x16& sum : sixteen) sum = zero16();
    for (int64_t d = 0; d < dim; d += 32) {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        ahead.lines<16>();
        F32x16 words[16];
        turn_sixteen(block.k + key + 16 * half, d, dim, words);
        const uint32_t* columns = queries + d / 2;
        if (pairs - d / 2 >= 16) {
          add_scores<Rows, 16>(columns, pairs, words, sums[half]);
        } else {
          add_scores<Rows, 8>(columns, pairs, words, sums[half]);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
      store16(scores + r * kAttentionBlock + key, sums[0][r]);
      store16(scores + r * kAttentionBlock + key + 16, sums[1][r]);
    }
  }
}

// Columns [column, column + 16 * Vectors), of which `count` exist, as pair_tile. Positions outside of the block's are 0.
template <int Rows, int Vectors>
SHOAL_INLINE void few_tile(const PairTile& tile, const Block<uint16_t>& block, int64_t column, int64_t count,
                           Fetch& ahead) {
  const Interleaving order;
  const int64_t first = block.first - block.begin, end = block.end - block.begin;
  F32x16 sums[Rows][Vectors];
  load_sums(tile, column, count, sums);
  const uint32_t* weights = tile.weights;
  const __mmask32 columns = Vectors > 2 || count >= 32 ? ~0u : (1u << count) - 1u;
  for (int64_t pair = tile.begin; pair < tile.end; ++pair) {
    ahead.lines<Vectors>();
    const __mmask32 even = 2 * pair >= first ? columns : 0, odd = 2 * pair + 1 < end ? columns : 0;
    const uint16_t* rows[2] = {block.v[2 * pair] + column, block.v[2 * pair + 1] + column};
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; v += 2) {
      const __m512i a = _mm512_maskz_loadu_epi16(even, rows[0] + 16 * v);
      const __m512i b = _mm512_maskz_loadu_epi16(odd, rows[1] + 16 * v);
      const F32x16 low = order.first(a, b), high = order.second(a, b);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        add_pair(sums[r][v], weights[r * kAttentionBlock + pair], low);
        add_pair(sums[r][v + 1], weights[r * kAttentionBlock + pair], high);
      }
    }
  }
  store_sums(tile, column, count, sums);
}

}  // namespace
}  // namespace shoal::SHOAL_ISA

#endif
