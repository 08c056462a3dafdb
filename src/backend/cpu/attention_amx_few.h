// SPDX-License-Identifier: Apache-2.0
// attention_amx.h for few rows, by vectors to the same bits: panels and tiles go through memory, which would take most of the time. For
// attention_amx.cc only.
#pragma once

#include "backend/cpu/attention_blocks.h"
#include "backend/cpu/attention_pairs.h"
#include "backend/cpu/attention_softmax.h"
#include "backend/cpu/simd_amx.h"

namespace shoal::SHOAL_ISA {
namespace {

constexpr int64_t kStepColumns = 2 * kTileSide;

// Of words, in the scratch memory after the scores.
struct TilePanels {
  uint32_t* queries;  // [pairs of columns][row of the tile], zeros to whole steps
  uint16_t* keys;     // [key][round_up_32(k_dim)], where they do not lie in the cache as tiles want them
};
SHOAL_INLINE TilePanels tile_panels(const AttentionTile& tile) {
  const int64_t k_dim = round_up_32(tile.source->k_dim);
  auto* const queries = reinterpret_cast<uint32_t*>(tile.scratch + kAttentionBlock * kAttentionTileRows);
  return {.queries = queries, .keys = reinterpret_cast<uint16_t*>(queries + kAttentionTileRows * k_dim / 2)};
}

// The tile's queries rounded to bf16, as f32, [row][round_up_32(k_dim)].
inline void round_few_queries(const AttentionTile& tile, float* out) {
  const int64_t dim = tile.source->k_dim, wide = round_up_32(dim);
  for (int64_t row = 0; row < tile.count; ++row, out += wide)
    for (int64_t d = 0; d < wide; d += 16) store16(out + d, round_bf16(load16(tile.rows[row].q + d, dim - d)));
}

// scores[r][key] of the tile's few rows with the sixteens of keys of which one sees something.
template <int Rows>
inline void few_scores(const float* queries, const Block<uint16_t>& block, int64_t dim, Fetch& ahead, float* scores) {
  const int64_t wide = round_up_32(dim), end = block.end - block.begin;
  for (int64_t key = (block.first - block.begin) / kTileSide * kTileSide; key < end; key += kTileSide) {
    F32x16 sums[Rows];
    for (int r = 0; r < Rows; ++r) sums[r] = zero16();
    for (int64_t d = 0; d < dim; d += kStepColumns) {
      F32x16 words[16], even[Rows], odd[Rows];
      turn_sixteen(block.k + key, d, dim, words);
      for (int r = 0; r < Rows; ++r) even[r] = odd[r] = zero16();
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        if (i % 4 == 0) ahead.lines<4>();
        const __m512i pairs = _mm512_castps_si512(words[i].v);
        const F32x16 low = low_of(pairs), high = high_of(pairs);
#pragma GCC unroll 4
        for (int r = 0; r < Rows; ++r) {
          add_product(even[r], set1(queries[r * wide + d + 2 * i]), low);
          add_product(odd[r], set1(queries[r * wide + d + 2 * i + 1]), high);
        }
      }
      for (int r = 0; r < Rows; ++r) sums[r] += even[r] + odd[r];
    }
    for (int r = 0; r < Rows; ++r) store16(scores + r * kAttentionBlock + key, sums[r]);
  }
}

// Of one position: sums of [row][even and odd columns of each 32] += weight times value; weights of rows are kAttentionBlock apart.
template <int Rows, int Vectors>
SHOAL_INLINE void add_position(F32x16 (&sums)[Rows][Vectors], const float* weights, const uint16_t* values,
                               const __mmask16* masks) {
#pragma GCC unroll 2
  for (int v = 0; v < Vectors; v += 2) {
    const __m512i words = _mm512_maskz_loadu_epi32(masks[v / 2], values + 16 * v);
    const F32x16 even = low_of(words), odd = high_of(words);
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
      const F32x16 weight = set1(weights[r * kAttentionBlock]);
      add_product(sums[r][v], weight, even);
      add_product(sums[r][v + 1], weight, odd);
    }
  }
}

// Columns [column, column + 16 * Vectors), of which an even number `count` exists, of [Rows][v_dim] sums.
template <int Rows, int Vectors>
SHOAL_INLINE void few_columns(const Block<uint16_t>& block, int64_t column, int64_t count, const float* weights,
                              float* sums, int64_t v_dim, Fetch& ahead) {
  const auto mask_of = [&](int64_t pair) {
    const int64_t left = count / 2 - pair;
    return static_cast<__mmask16>(left >= 16 ? 0xffffu : left > 0 ? (1u << left) - 1u : 0u);
  };
  const __mmask16 masks[2] = {mask_of(0), mask_of(16)};
  for (int64_t position = 0; position < kAttentionBlock; position += kStepColumns) {
    F32x16 even[Rows][Vectors], odd[Rows][Vectors];
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) even[r][v] = odd[r][v] = zero16();
    }
    for (int64_t j = position; j < position + kStepColumns; j += 2) {
      ahead.lines<Vectors / 2>();
      add_position(even, weights + j, block.v[j] + column, masks);
      ahead.lines<Vectors / 2>();
      add_position(odd, weights + j + 1, block.v[j + 1] + column, masks);
    }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; v += 2) {
        F32x16 first = even[r][v] + odd[r][v], second = even[r][v + 1] + odd[r][v + 1];
        join_columns(first, second);
        float* to = sums + r * v_dim + column + 16 * v;
        const int64_t left = count - 16 * v;
        store16(to, load16(to, left) + first, left);
        store16(to + 16, load16(to + 16, left - 16) + second, left - 16);
      }
    }
  }
}

SHOAL_INLINE bool by_vectors(const AttentionTile& tile) {
  return tile.count <= kFewRows && tile.source->v_dim % 2 == 0;
}

// As attend_tiles, of all rows of a tile of few.
inline void attend_few(const AttentionTile& tile, int64_t row_begin, int64_t row_end, const Block<uint16_t>& block,
                       Fetch& ahead, const AttentionState& state) {
  const KvSource& source = *tile.source;
  const int64_t v_dim = source.v_dim, k_dim = source.k_dim;
  const auto* queries = reinterpret_cast<const float*>(tile_panels(tile).queries) + row_begin * round_up_32(k_dim);
  float* scores = tile.scratch;
  with_few(row_end - row_begin, [&]<int Rows>() {
    {
      const FlushSubnormals flush;
      few_scores<Rows>(queries, block, k_dim, ahead, scores);
    }
    weigh_rows(tile, row_begin, Rows, block.begin, state);
    for (int64_t i = 0; i < Rows * kAttentionBlock; i += 16) store16(scores + i, round_bf16(load16(scores + i)));
    const FlushSubnormals flush;
    for_columns<Rows <= 2 ? 4 : 2, 2>(v_dim, [&]<int Vectors>(int64_t column, int64_t count) {
      few_columns<Rows, Vectors>(block, column, count, scores, state.values + row_begin * v_dim, v_dim, ahead);
    });
  });
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
