// SPDX-License-Identifier: Apache-2.0
// Attention over a bf16 cache by matrix tiles (simd_amx.h), for any number of rows. Scores are computed as [key][query], so that keys are taken as
// they lie in the cache, then turned; values are interleaved by pairs of positions (attention_pairs.h). Queries and weights are rounded to bf16.
// Bits: a score is one chain over steps of 32 columns, a value one over steps of 32 positions; a position that a row does not see has weight 0,
// one that no row sees is 0. For attention_amx.cc only.
#pragma once

#include "backend/cpu/attention_amx_few.h"

namespace shoal::SHOAL_ISA {
namespace {

// Tiles beside the sums: of keys and queries, then of weights and values. One of each is enough, since the processor renames them.
constexpr int kFirstTile = 4, kSecondTile = 5;
constexpr int64_t kScoresStride = kAttentionBlock * 4;

inline void turn_queries(const AttentionTile& tile, uint32_t* out) {
  const int64_t dim = tile.source->k_dim;
  for (int64_t row = 0; row < tile.count; row += kTileSide) {
    for (int64_t d = 0; d < dim; d += kStepColumns) {
      F32x16 words[kTileSide];
      for (int64_t i = 0; i < kTileSide; ++i) {
        const float* q = tile.rows[smaller(row + i, tile.count - 1)].q + d;
        words[i] = round_pairs(load16(q, dim - d), load16(q + 16, dim - d - 16));
      }
      transpose16(words);
      auto* to = reinterpret_cast<float*>(out + d / 2 * kAttentionTileRows + row);
      for (int64_t i = 0; i < kTileSide; ++i) store16(to + i * kAttentionTileRows, words[i]);
    }
  }
}

// Sixteen keys as a tile takes them; stride in bytes.
struct KeyTile {
  const uint16_t* rows;
  int64_t stride;
};

// Keys [key, key + 16) of a block: as they lie if they do so side by side and in whole steps, else copied to `copied`.
inline KeyTile key_tile(const KvSource& source, const Block<uint16_t>& block, int64_t key, uint16_t* copied) {
  const int64_t dim = source.k_dim, wide = round_up_32(dim);
  const bool whole = block.first <= block.begin + key && block.begin + key + kTileSide <= block.end;
  if (whole && dim == wide && source.tokens_per_block % kTileSide == 0) return {block.k[key], dim * 2};
  uint16_t* to = copied + key * wide;
  for (int64_t i = 0; i < kTileSide; ++i)
    for (int64_t d = 0; d < dim; d += 32)
      store16(reinterpret_cast<float*>(to + i * wide + d),
              {_mm512_castsi512_ps(load32_bf16(block.k[key + i] + d, dim - d))});
  return {to, wide * 2};
}

template <int kKeys>
SHOAL_INLINE void add_keys(const KeyTile& keys, int64_t column) {
  load_tile<kFirstTile>(keys.rows + column, keys.stride);
  add_tile_product<kKeys, kFirstTile, kSecondTile>();
}

// scores[r][key] of sixteen rows, whose queries are the panel's columns from `queries` on.
inline void score_tiles(const KeyTile (&keys)[4], int64_t dim, const uint32_t* queries, Fetch& ahead, float* scores) {
  zero_sums();
  for (int64_t d = 0; d < dim; d += kStepColumns) {
    ahead.lines<16>();
    load_tile<kSecondTile>(queries + d / 2 * kAttentionTileRows, kAttentionTileRows * 4);
    add_keys<0>(keys[0], d);
    add_keys<1>(keys[1], d);
    add_keys<2>(keys[2], d);
    add_keys<3>(keys[3], d);
  }
  alignas(kLine) float turned[4][kTileFloats];
  store_sums(turned[0], kTileFloats, kLine);
  for (int64_t g = 0; g < 4; ++g) {
    ahead.lines<16>();
    F32x16 lanes[kTileSide];
#pragma GCC unroll 16
    for (int i = 0; i < kTileSide; ++i) lanes[i] = load16(turned[g] + i * kTileSide);
    transpose16(lanes);
#pragma GCC unroll 16
    for (int r = 0; r < kTileSide; ++r) store16(scores + r * kAttentionBlock + g * kTileSide, lanes[r]);
  }
}

// Up to kPanelColumns columns of values from `column` on, [pair of positions][kPanelColumns] words (even, odd); what is not in the block is 0.
constexpr int64_t kPanelColumns = 4 * kTileSide;
constexpr int64_t kPanelStride = kPanelColumns * 4;
inline void interleave_columns(const Block<uint16_t>& block, int64_t column, int64_t count, Fetch& ahead,
                               uint32_t* out) {
  const Interleaving order;
  const int64_t first = block.first - block.begin, end = block.end - block.begin;
  const auto mask_of = [](int64_t left) { return left >= 32 ? ~0u : left > 0 ? (1u << left) - 1u : 0u; };
  const __mmask32 masks[2] = {mask_of(count), mask_of(count - 32)};
  for (int64_t even = 0; even < kAttentionBlock; even += 2, out += kPanelColumns) {
    ahead.lines<4>();
    const uint16_t* rows[2] = {block.v[even] + column, block.v[even + 1] + column};
    const __mmask32 seen[2] = {first <= even && even < end ? ~0u : 0u, first <= even + 1 && even + 1 < end ? ~0u : 0u};
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m512i a = _mm512_maskz_loadu_epi16(masks[half] & seen[0], rows[0] + 32 * half);
      const __m512i b = _mm512_maskz_loadu_epi16(masks[half] & seen[1], rows[1] + 32 * half);
      auto* to = reinterpret_cast<float*>(out + 32 * half);
      store16(to, order.first(a, b));
      store16(to + 16, order.second(a, b));
    }
  }
}

template <int kColumn>
SHOAL_INLINE void add_values(const uint32_t* values) {
  load_tile<kSecondTile>(values + kTileSide * kColumn, kPanelStride);
  add_tile_product<kColumn, kFirstTile, kSecondTile>();
}

// sums[r][0, 64) += weights of sixteen rows times a panel; rows of sums are `stride` bytes apart.
SHOAL_INLINE void add_four_columns(const float* weights, const uint32_t* values, float* sums, int64_t stride) {
  load_sums(sums, kTileSide, stride);
  for (int64_t step = 0; step < 2; ++step, weights += kTileSide, values += kTileSide * kPanelColumns) {
    load_tile<kFirstTile>(weights, kScoresStride);
    add_values<0>(values);
    add_values<1>(values);
    add_values<2>(values);
    add_values<3>(values);
  }
  store_sums(sums, kTileSide, stride);
}
SHOAL_INLINE void add_one_column(const float* weights, const uint32_t* values, float* sums, int64_t stride) {
  load_tile<0>(sums, stride);
  for (int64_t step = 0; step < 2; ++step, weights += kTileSide, values += kTileSide * kPanelColumns) {
    load_tile<kFirstTile>(weights, kScoresStride);
    add_values<0>(values);
  }
  store_tile<0>(sums, stride);
}

// `count` columns of sixteen rows, [rows][v_dim].
inline void add_columns(const float* weights, const uint32_t* values, int64_t count, float* sums, int64_t v_dim) {
  if (count == kPanelColumns) return add_four_columns(weights, values, sums, v_dim * 4);
  int64_t c = 0;
  for (; c + kTileSide <= count; c += kTileSide) add_one_column(weights, values + c, sums + c, v_dim * 4);
  if (c == count) return;
  alignas(kLine) float last[kTileFloats];
  for (int64_t r = 0; r < kTileSide; ++r) store16(last + r * kTileSide, load16(sums + r * v_dim + c, count - c));
  add_one_column(weights, values + c, last, kLine);
  for (int64_t r = 0; r < kTileSide; ++r) store16(sums + r * v_dim + c, load16(last + r * kTileSide), count - c);
}

// Scores or weights of a row of the tile; the state has as many rows.
SHOAL_INLINE float* scores_of(const AttentionTile& tile, int64_t row) { return tile.scratch + row * kAttentionBlock; }

// Weights of rows [row_begin, row_end) as bf16 pairs; those of other rows of their sixteens are 0.
inline void weights_to_tiles(const AttentionTile& tile, int64_t row_begin, int64_t row_end) {
  for (int64_t row = row_begin; row < row_end; ++row) round_weights(scores_of(tile, row));
  const auto clear = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t i = 0; i < 2 * kTileSide; i += 16) store16(scores_of(tile, row) + i, zero16());
  };
  clear(row_begin / kTileSide * kTileSide, row_begin);
  clear(row_end, round_up_16(row_end));
}

// Rows [row_begin, row_end) of a tile and a block of which they see something; scores by sixteens; `ahead` is fetched meanwhile.
inline void attend_tiles(const AttentionTile& tile, int64_t row_begin, int64_t row_end, const Block<uint16_t>& block,
                         Fetch& ahead, const AttentionState& state) {
  const KvSource& source = *tile.source;
  const TilePanels panels = tile_panels(tile);
  const int64_t first = row_begin / kTileSide * kTileSide, v_dim = source.v_dim;
  KeyTile keys[4];
  for (int64_t g = 0; g < 4; ++g) keys[g] = key_tile(source, block, g * kTileSide, panels.keys);
  for (int64_t row = first; row < row_end; row += kTileSide)
    score_tiles(keys, source.k_dim, panels.queries + row, ahead, scores_of(tile, row));
  AttentionTile seeing = tile;
  seeing.scratch = scores_of(tile, row_begin);
  weigh_rows(seeing, row_begin, row_end - row_begin, block.begin, state);
  weights_to_tiles(tile, row_begin, row_end);
  alignas(kLine) uint32_t values[kAttentionBlock / 2 * kPanelColumns];
  for (int64_t column = 0; column < v_dim; column += kPanelColumns) {
    const int64_t columns = smaller(v_dim - column, kPanelColumns);
    interleave_columns(block, column, columns, ahead, values);
    for (int64_t row = first; row < row_end; row += kTileSide)
      add_columns(scores_of(tile, row), values, columns, state.values + row * v_dim + column, v_dim);
  }
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
