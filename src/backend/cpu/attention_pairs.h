// SPDX-License-Identifier: Apache-2.0
// The two products of attention over a bf16 cache by the instruction that multiplies pairs of bf16: queries and weights are rounded to bf16,
// sums are f32. Both are tiles of a product (gemm_tiles.h) with panels made of the block: scores of [pair of columns][key], one chain over the
// pairs; values of [pair of positions][column], one chain over the pairs (even, odd), where a position that a row does not see has weight 0.
// For attention_<path>.cc only.
#pragma once

#include "backend/cpu/attention_blocks.h"
#include "backend/cpu/attention_tiles.h"
#include "backend/cpu/gemm_tiles.h"

#if defined(SHOAL_BF16_PAIRS)

namespace shoal::SHOAL_ISA {
namespace {

static_assert(kColumns == kAttentionBlock);
constexpr int kPairRows = kTileRows;  // of a register tile

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

// words[i]: columns d + 2i and d + 2i + 1 of sixteen keys.
SHOAL_INLINE void turn_sixteen(const uint16_t* const* k, int64_t d, int64_t dim, F32x16 (&words)[16]) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) words[i] = {_mm512_castsi512_ps(load32_bf16(k[i] + d, dim - d))};
  transpose16(words);
}

// Keys of a block as a panel, [pairs_of(dim)][kAttentionBlock] words: those of the sixteens of positions that some row sees.
inline void turn_keys(const Block<uint16_t>& block, int64_t dim, Fetch& ahead, uint32_t* out) {
  const int64_t end = block.end - block.begin;
  for (int64_t key = (block.first - block.begin) / 16 * 16; key < end; key += 16) {
    for (int64_t d = 0; d < dim; d += 32) {
      ahead.lines<8>();
      F32x16 words[16];
      turn_sixteen(block.k + key, d, dim, words);
      auto* to = reinterpret_cast<float*>(out + d / 2 * kAttentionBlock + key);
      const int64_t count = smaller(pairs_of(dim) - d / 2, 16);
      for (int64_t i = 0; i < count; ++i) store16(to + i * kAttentionBlock, words[i]);
    }
  }
}

// scores[r][key] of `Rows` rows and the sixteens of keys from `key` on; rows of scores are kAttentionBlock apart, of queries `pairs`.
template <int Rows, int Vectors>
SHOAL_INLINE void score_tile(const uint32_t* queries, int64_t pairs, const uint32_t* keys, Fetch& ahead,
                             float* scores) {
  F32x16 sums[Rows][Vectors];
  const uint32_t* rows[Rows];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    rows[r] = queries + r * pairs;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sums[r][v] = zero16();
  }
  for (int64_t pair = 0; pair < pairs; ++pair) {
    ahead.lines<2>();
    Bf16Unit::step(sums, rows, pair, keys + pair * kAttentionBlock);
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store16(scores + r * kAttentionBlock + 16 * v, sums[r][v]);
  }
}

// Of the keys [begin, end) of a block, and a few more.
template <int Rows>
SHOAL_INLINE void score_pairs(const uint32_t* queries, int64_t pairs, const uint32_t* keys, Visible seen, Fetch& ahead,
                              float* scores) {
  int64_t key = seen.begin / 16 * 16;
  for (; seen.end - key > 48; key += 64) score_tile<Rows, 4>(queries, pairs, keys + key, ahead, scores + key);
  for (; seen.end - key > 16; key += 32) score_tile<Rows, 2>(queries, pairs, keys + key, ahead, scores + key);
  for (; key < seen.end; key += 16) score_tile<Rows, 1>(queries, pairs, keys + key, ahead, scores + key);
}

// Two rows of values to pairs (even, odd), 16 words at a time.
//   a b c .., A B C ..  ->  aA bB cC ..
class Interleaving {
 public:
  Interleaving() {
    alignas(64) uint16_t places[32];
    for (int i = 0; i < 32; ++i) places[i] = static_cast<uint16_t>(i / 2 + i % 2 * 32);
    first_ = _mm512_load_si512(places);
    second_ = _mm512_add_epi16(first_, _mm512_set1_epi16(16));
  }
  SHOAL_INLINE F32x16 first(__m512i even, __m512i odd) const { return words(even, first_, odd); }
  SHOAL_INLINE F32x16 second(__m512i even, __m512i odd) const { return words(even, second_, odd); }

 private:
  static SHOAL_INLINE F32x16 words(__m512i even, __m512i places, __m512i odd) {
    return {_mm512_castsi512_ps(_mm512_permutex2var_epi16(even, places, odd))};
  }
  __m512i first_, second_;
};

// Values of pairs of positions, [pair][round_up_32(v_dim)] words (even, odd); positions outside [first, end) are 0.
inline void interleave_values(const Block<uint16_t>& block, int64_t dim, Fetch& ahead, uint32_t* out) {
  const Interleaving order;
  const int64_t first = block.first - block.begin, end = block.end - block.begin;
  for (int64_t even = first / 2 * 2; even < end; even += 2) {
    auto* words = reinterpret_cast<float*>(out + even / 2 * round_up_32(dim));
    for (int64_t c = 0; c < dim; c += 32) {
      ahead.lines<1>();
      const __m512i a = load32_bf16(block.v[even] + c, even >= first ? dim - c : 0);
      const __m512i b = load32_bf16(block.v[even + 1] + c, even + 1 < end ? dim - c : 0);
      store16(words + c, order.first(a, b));
      store16(words + c + 16, order.second(a, b));
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

// out[r][c] += sum over pairs [begin, end) of positions, in order, of weights[r][pair] * values[pair][c].
struct PairTile {
  const uint32_t* weights;  // bf16 pairs, rows kAttentionBlock words apart
  int64_t begin;
  int64_t end;
  float* out;  // rows `stride` apart
  int64_t stride;
};

// Sums of columns [column, column + 16 * Vectors), of which `count` exist.
template <int Rows, int Vectors>
SHOAL_INLINE void load_sums(const PairTile& tile, int64_t column, int64_t count, F32x16 (&sums)[Rows][Vectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sums[r][v] = load16(tile.out + r * tile.stride + column + 16 * v, count - 16 * v);
  }
}
template <int Rows, int Vectors>
SHOAL_INLINE void store_sums(const PairTile& tile, int64_t column, int64_t count, const F32x16 (&sums)[Rows][Vectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) store16(tile.out + r * tile.stride + column + 16 * v, sums[r][v], count - 16 * v);
  }
}

// What interleave_values makes; stride in words.
struct ValuePanel {
  const uint32_t* values;
  int64_t stride;
};

// Columns [column, column + 16 * Vectors), of which `count` exist.
template <int Rows, int Vectors>
SHOAL_INLINE void pair_tile(const PairTile& tile, const ValuePanel& panel, int64_t column, int64_t count,
                            Fetch& ahead) {
  F32x16 sums[Rows][Vectors];
  load_sums(tile, column, count, sums);
  const uint32_t* weights[Rows];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) weights[r] = tile.weights + r * kAttentionBlock;
  for (int64_t pair = tile.begin; pair < tile.end; ++pair) {
    ahead.lines<2>();
    Bf16Unit::step(sums, weights, pair, panel.values + pair * panel.stride + column);
  }
  store_sums(tile, column, count, sums);
}

}  // namespace
}  // namespace shoal::SHOAL_ISA

#endif
