// SPDX-License-Identifier: Apache-2.0
// The two products of attention over a bf16 cache by the instruction that multiplies pairs of bf16: queries and weights are rounded to bf16,
// sums are f32. Both are tiles of a product (gemm_tiles.h) with panels made of the block: scores of [pair of columns][key], one chain over the
// pairs; values of [pair of positions][column], one chain over the pairs (even, odd), where a position that a row does not see has weight 0.
// For attention_<path>.cc only.
#pragma once

#include "backend/cpu/attention_blocks.h"
#include "backend/cpu/attention_tiles.h"
#include "backend/cpu/gemm_tiles.h"

#if defined(SHOAL_ISA_AVX512BF16)

namespace shoal::SHOAL_ISA {
namespace {

static_assert(kColumns == kAttentionBlock);
constexpr int kPairRows = kTileRows;  // of a register tile

SHOAL_INLINE int64_t round_up_32(int64_t n) { return (n + 31) / 32 * 32; }
// 32 elements; those past the first n are 0.
SHOAL_INLINE __m512i load32_bf16(const uint16_t* p, int64_t n) {
  if (n >= 32) return _mm512_loadu_si512(p);
  return _mm512_maskz_loadu_epi16(n <= 0 ? 0 : (1u << n) - 1u, p);
}

// Words of a query or key: pairs of columns, the last ones 0.
SHOAL_INLINE int64_t pairs_of(int64_t dim) { return round_up_16(dim) / 2; }

// The tile's queries as bf16, [rows][pairs_of(k_dim)]. They lie far apart, so that later ones are to be fetched meanwhile.
inline void round_queries(const AttentionTile& tile, uint32_t* out) {
  const int64_t dim = tile.source->k_dim;
  for (int64_t row = 0; row < tile.count; ++row, out += pairs_of(dim)) {
    const float* later = tile.rows[smaller(row + 6, tile.count - 1)].q;
    for (int64_t i = 0; i < dim; i += 16) {
      __builtin_prefetch(later + i);
      const F32x16 words = round_pairs(load16(tile.rows[row].q + i, dim - i), zero16());
      store16(reinterpret_cast<float*>(out + i / 2), words, 8);
    }
  }
}

// Fetches the rows of a block line by line, in their order: what lies side by side in memory comes fastest so.
struct RowLines {
  const uint16_t* const* rows;  // null: nothing is fetched
  int64_t dim;
  int64_t row = 0;
  int64_t column = 0;

  SHOAL_INLINE void fetch(int lines) {
    if (!rows) return;
    for (int i = 0; i < lines; ++i) {
      __builtin_prefetch(rows[row] + column);
      column += kLine / 2;
      if (column < dim) continue;
      column = 0;
      row = smaller(row + 1, kAttentionBlock - 1);
    }
  }
};

// Keys of a block as a panel, [pairs_of(dim)][kAttentionBlock] words: those of the sixteens of positions that some row sees.
inline void turn_keys(const Block<uint16_t>& block, int64_t dim, RowLines ahead, uint32_t* out) {
  const int64_t end = block.end - block.begin;
  for (int64_t key = (block.first - block.begin) / 16 * 16; key < end; key += 16) {
    for (int64_t d = 0; d < dim; d += 32) {
      ahead.fetch(16);
      F32x16 words[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) words[i] = {_mm512_castsi512_ps(load32_bf16(block.k[key + i] + d, dim - d))};
      transpose16(words);
      auto* to = reinterpret_cast<float*>(out + d / 2 * kAttentionBlock + key);
      const int64_t count = smaller(pairs_of(dim) - d / 2, 16);
      for (int64_t i = 0; i < count; ++i) store16(to + i * kAttentionBlock, words[i]);
    }
  }
}

// scores[r][key] of `Rows` rows and the sixteens of keys from `key` on; rows of scores are kAttentionBlock apart, of queries `pairs`.
template <int Rows, int Vectors>
SHOAL_INLINE void score_tile(const uint32_t* queries, int64_t pairs, const uint32_t* keys, float* scores) {
  F32x16 sums[Rows][Vectors];
  const uint32_t* rows[Rows];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    rows[r] = queries + r * pairs;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sums[r][v] = zero16();
  }
  for (int64_t pair = 0; pair < pairs; ++pair) Bf16Unit::step(sums, rows, pair, keys + pair * kAttentionBlock);
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store16(scores + r * kAttentionBlock + 16 * v, sums[r][v]);
  }
}

// Of the keys [begin, end) of a block, and a few more.
template <int Rows>
SHOAL_INLINE void score_pairs(const uint32_t* queries, int64_t pairs, const uint32_t* keys, Visible seen,
                              float* scores) {
  int64_t key = seen.begin / 16 * 16;
  for (; seen.end - key > 48; key += 64) score_tile<Rows, 4>(queries, pairs, keys + key, scores + key);
  for (; seen.end - key > 16; key += 32) score_tile<Rows, 2>(queries, pairs, keys + key, scores + key);
  for (; key < seen.end; key += 16) score_tile<Rows, 1>(queries, pairs, keys + key, scores + key);
}

// Values of pairs of positions, [pair][round_up_32(v_dim)] words (even, odd); positions outside [first, end) are 0.
//   v[2j] = a b c .., v[2j + 1] = A B C ..  ->  aA bB cC ..
inline void interleave_values(const Block<uint16_t>& block, int64_t dim, RowLines ahead, uint32_t* out) {
  alignas(64) uint16_t low[32];
  for (int i = 0; i < 32; ++i) low[i] = static_cast<uint16_t>(i / 2 + i % 2 * 32);
  const __m512i first_half = _mm512_load_si512(low);
  const __m512i second_half = _mm512_add_epi16(first_half, _mm512_set1_epi16(16));
  const int64_t first = block.first - block.begin, end = block.end - block.begin;
  for (int64_t even = first / 2 * 2; even < end; even += 2) {
    uint32_t* words = out + even / 2 * round_up_32(dim);
    for (int64_t c = 0; c < dim; c += 32) {
      ahead.fetch(2);
      const __m512i a = load32_bf16(block.v[even] + c, even >= first ? dim - c : 0);
      const __m512i b = load32_bf16(block.v[even + 1] + c, even + 1 < end ? dim - c : 0);
      _mm512_storeu_si512(words + c, _mm512_permutex2var_epi16(a, first_half, b));
      _mm512_storeu_si512(words + c + 16, _mm512_permutex2var_epi16(a, second_half, b));
    }
  }
}

// weights [64] of one row, f32 to bf16 in place.
SHOAL_INLINE void round_weights(float* weights) {
  const F32x16 first[2] = {load16(weights), load16(weights + 16)};
  const F32x16 second[2] = {load16(weights + 32), load16(weights + 48)};
  store16(weights, round_pairs(first[0], first[1]));
  store16(weights + 16, round_pairs(second[0], second[1]));
}

// out[r][c] += sum over pairs [begin, end), in order, of weights[r][pair] * values[pair][c].
struct PairTile {
  const uint32_t* weights;  // bf16 pairs, rows kAttentionBlock words apart
  const uint32_t* values;
  int64_t value_stride;  // words
  int64_t begin;
  int64_t end;
  float* out;  // rows `stride` apart
  int64_t stride;
};

// Columns [column, column + 16 * Vectors), of which `count` exist.
template <int Rows, int Vectors>
SHOAL_INLINE void pair_tile(const PairTile& tile, int64_t column, int64_t count) {
  F32x16 sums[Rows][Vectors];
  const uint32_t* weights[Rows];
  float* out = tile.out + column;
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    weights[r] = tile.weights + r * kAttentionBlock;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sums[r][v] = load16(out + r * tile.stride + 16 * v, count - 16 * v);
  }
  for (int64_t pair = tile.begin; pair < tile.end; ++pair)
    Bf16Unit::step(sums, weights, pair, tile.values + pair * tile.value_stride + column);
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store16(out + r * tile.stride + 16 * v, sums[r][v], count - 16 * v);
  }
}

template <int Rows, int Vectors>
SHOAL_INLINE void pair_columns(const PairTile& tile, int64_t column, int64_t dim) {
  for (; column + 16 * Vectors <= dim; column += 16 * Vectors) pair_tile<Rows, Vectors>(tile, column, 16 * Vectors);
  if constexpr (Vectors > 1) {
    pair_columns<Rows, Vectors / 2>(tile, column, dim);
  } else if (column < dim) {
    pair_tile<Rows, 1>(tile, column, dim - column);
  }
}

}  // namespace
}  // namespace shoal::SHOAL_ISA

#endif
