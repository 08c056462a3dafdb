// SPDX-License-Identifier: Apache-2.0
// The two products of attention over a bf16 cache by the instruction that multiplies pairs of bf16: queries and weights are rounded to bf16,
// sums are f32. Scores: sixteen chains over pairs of columns, lane = pair mod 16. Values: one chain per column over pairs of positions
// (even, odd); a position that a row does not see has weight 0 in its pair. For attention_<path>.cc only.
#pragma once

#include "backend/cpu/attention_blocks.h"
#include "backend/cpu/attention_tiles.h"

#if defined(SHOAL_ISA_AVX512BF16)

namespace shoal::SHOAL_ISA {
namespace {

constexpr int64_t kBlockPairs = kAttentionBlock / 2;

SHOAL_INLINE int64_t round_up_32(int64_t n) { return (n + 31) / 32 * 32; }
SHOAL_INLINE F32x16 add_pairs(F32x16 sum, __m512i a, __m512i b) {
  return {_mm512_dpbf16_ps(sum.v, (__m512bh)a, (__m512bh)b)};
}
// 32 elements; those past the first n are 0.
SHOAL_INLINE __m512i load32_bf16(const uint16_t* p, int64_t n) {
  if (n >= 32) return _mm512_loadu_si512(p);
  return _mm512_maskz_loadu_epi16(n <= 0 ? 0 : (1u << n) - 1u, p);
}

// The tile's queries as bf16, [rows][round_up_32(k_dim)], zero-padded.
inline void round_queries(const AttentionTile& tile, uint16_t* out) {
  const int64_t dim = tile.source->k_dim;
  const int64_t stride = round_up_32(dim);
  for (int64_t row = 0; row < tile.count; ++row, out += stride)
    for (int64_t i = 0; i < stride; i += 16) store16_bf16(out + i, load16(tile.rows[row].q + i, dim - i));
}

// scores[r][key] for `Rows` rows and kTile / Rows keys; rows of scores are kAttentionBlock apart, of q `q_stride`.
template <int Rows>
SHOAL_INLINE void dot_pairs(const uint16_t* q, int64_t q_stride, const uint16_t* const* k, const uint16_t* const* ahead,
                            int64_t dim, float* scores) {
  constexpr int kKeys = kTile / Rows;
  F32x16 sums[kTile];
  for (int i = 0; i < kTile; ++i) sums[i] = zero16();
  for (int64_t d = 0; d < dim; d += 32) {
    __m512i queries[Rows];
    for (int r = 0; r < Rows; ++r) queries[r] = _mm512_loadu_si512(q + r * q_stride + d);
    for (int key = 0; key < kKeys; ++key) {
      fetch_ahead<Rows>(ahead[key], d);
      const __m512i keys = load32_bf16(k[key] + d, dim - d);
      for (int r = 0; r < Rows; ++r) sums[r * kKeys + key] = add_pairs(sums[r * kKeys + key], queries[r], keys);
    }
  }
  float reduced[kTile];
  reduce_tile(sums, reduced);
  for (int r = 0; r < Rows; ++r) __builtin_memcpy(scores + r * kAttentionBlock, reduced + r * kKeys, kKeys * 4);
}

// Values of pairs of positions, [pair][round_up_32(v_dim)] words (even, odd); positions outside [first, end) are 0.
//   v[2j] = a b c .., v[2j + 1] = A B C ..  ->  aA bB cC ..
inline void interleave_values(const Block<uint16_t>& block, int64_t dim, bool fetches, uint32_t* out) {
  alignas(64) uint16_t low[32];
  for (int i = 0; i < 32; ++i) low[i] = static_cast<uint16_t>(i / 2 + i % 2 * 32);
  const __m512i first_half = _mm512_load_si512(low);
  const __m512i second_half = _mm512_add_epi16(first_half, _mm512_set1_epi16(16));
  const int64_t first = block.first - block.begin, end = block.end - block.begin;
  for (int64_t even = first / 2 * 2; even < end; even += 2) {
    uint32_t* words = out + even / 2 * round_up_32(dim);
    for (int64_t c = 0; c < dim; c += 32) {
      if (fetches) {
        __builtin_prefetch(block.next_k[even] + c);
        __builtin_prefetch(block.next_k[even + 1] + c);
      }
      const __m512i a = load32_bf16(block.v[even] + c, even >= first ? dim - c : 0);
      const __m512i b = load32_bf16(block.v[even + 1] + c, even + 1 < end ? dim - c : 0);
      _mm512_storeu_si512(words + c, _mm512_permutex2var_epi16(a, first_half, b));
      _mm512_storeu_si512(words + c + 16, _mm512_permutex2var_epi16(a, second_half, b));
    }
  }
}

// weights [64] of one row, f32 to bf16 in place; 0 for a row that has seen nothing yet.
SHOAL_INLINE void round_weights(float* weights, bool seen) {
  for (int i = 0; i < 4; ++i)
    store16_bf16(reinterpret_cast<uint16_t*>(weights) + 16 * i, seen ? load16(weights + 16 * i) : zero16());
}

// out[r][c] += sum over pairs [begin, end), in order, of weights[r][pair] * values[pair][c].
struct PairTile {
  const float* weights;  // bf16 pairs, rows kAttentionBlock words apart
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
  F32x16 sums[Rows * Vectors];
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < Vectors; ++c)
      sums[r * Vectors + c] = load16(tile.out + r * tile.stride + column + 16 * c, count - 16 * c);
  for (int64_t pair = tile.begin; pair < tile.end; ++pair) {
    const uint32_t* words = tile.values + pair * tile.value_stride + column;
    __m512i values[Vectors];
    for (int c = 0; c < Vectors; ++c) values[c] = _mm512_loadu_si512(words + 16 * c);
    for (int r = 0; r < Rows; ++r) {
      const __m512i weight = _mm512_castps_si512(set1(tile.weights[r * kAttentionBlock + pair]).v);
      for (int c = 0; c < Vectors; ++c) sums[r * Vectors + c] = add_pairs(sums[r * Vectors + c], weight, values[c]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < Vectors; ++c)
      store16(tile.out + r * tile.stride + column + 16 * c, sums[r * Vectors + c], count - 16 * c);
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
