// SPDX-License-Identifier: Apache-2.0
// Bodies of AttentionKernels (attention.h), for attention_<path>.cc only.
#pragma once

#include "backend/cpu/attention_blocks.h"
#include "backend/cpu/attention_few_pairs.h"
#include "backend/cpu/attention_pairs.h"
#include "backend/cpu/attention_softmax.h"
#include "backend/cpu/attention_tiles.h"
#if defined(SHOAL_ISA_AMX)
#include "backend/cpu/attention_amx.h"
#endif

namespace shoal::SHOAL_ISA {
namespace {

// With fewer rows, each element of narrow K and V is widened where it is used.
constexpr int64_t kWidenFromRows = 4;

// The scratch memory after the scores: K and V of a block widened to f32; or rounded queries and panels of keys and values.
SHOAL_INLINE float* wide_keys(const AttentionTile& tile) { return tile.scratch + kAttentionBlock * kAttentionTileRows; }

// Unscaled scores of `Rows` rows with every position that one of them sees (and a few more).
template <int Rows, typename T, class Ahead>
inline void score_rows(const QueryRow* rows, const Block<T>& block, int64_t dim, Ahead& ahead, float* scores) {
  constexpr int64_t kKeys = kTile / Rows;
  const int64_t begin = visible_in(rows[0], block.begin).begin / kKeys * kKeys;
  const int64_t end = visible_in(rows[Rows - 1], block.begin).end;
  for (int64_t key = begin; key < end; key += kKeys) dot_tile<Rows>(rows, block.k + key, ahead, dim, scores + key);
}

// Values of `Rows` neighbouring rows. Where they do not see the same positions, each row takes its own edges by itself, still
// in order, so that a position which it does not see is never read for it.
template <int Rows, typename T, class Ahead>
inline void value_rows(const QueryRow* rows, const Block<T>& block, const float* weights, float* values, int64_t v_dim,
                       Ahead& ahead) {
  const auto take = [&]<int Together>(const ValueTile& tile) {
    constexpr int kMost = Together == 1 ? kTile / 2 : kTile / Together;
    for_columns<kMost, 1>(v_dim, [&]<int Vectors>(int64_t column, int64_t count) {
      value_tile<Together, Vectors>(tile, block.v, ahead, column, count);
    });
  };
  const Visible front = visible_in(rows[0], block.begin), back = visible_in(rows[Rows - 1], block.begin);
  const int64_t begin = back.begin, end = larger(front.end, back.begin);
  for (int r = 0; Rows > 1 && r < Rows; ++r) {
    const Visible own = visible_in(rows[r], block.begin);
    if (own.begin >= begin) continue;
    const ValueTile edge = {weights + r * kAttentionBlock, own.begin, smaller(own.end, begin), values + r * v_dim,
                            v_dim};
    take.template operator()<1>(edge);
  }
  if (begin < end) take.template operator()<Rows>(ValueTile{weights, begin, end, values, v_dim});
  for (int r = 0; Rows > 1 && r < Rows; ++r) {
    const Visible own = visible_in(rows[r], block.begin);
    if (own.end <= end) continue;
    const ValueTile edge = {weights + r * kAttentionBlock, larger(own.begin, end), own.end, values + r * v_dim, v_dim};
    take.template operator()<1>(edge);
  }
}

// Calls step<n>(row) over rows [0, count), n rows at a time: `Most`, as many as a register tile takes, then fewer.
template <int Most, typename Step>
SHOAL_INLINE void for_row_groups(int64_t count, const Step& step) {
  int64_t row = 0;
  if constexpr (Most > 4)
    for (; row + Most <= count; row += Most) step.template operator()<Most>(row);
  if constexpr (Most >= 4)
    for (; row + 4 <= count; row += 4) step.template operator()<4>(row);
  for (; row + 2 <= count; row += 2) step.template operator()<2>(row);
  for (; row < count; ++row) step.template operator()<1>(row);
}

template <typename T, class Ahead>
inline void attend_block(const AttentionTile& tile, int64_t row_begin, int64_t count, const Block<T>& block,
                         Ahead& ahead, const AttentionState& state) {
  const QueryRow* rows = tile.rows + row_begin;
  const int64_t v_dim = tile.source->v_dim;
  float* scores = tile.scratch;
  float* values = state.values + row_begin * v_dim;
  constexpr int kMost = kTile >= 16 ? 4 : 2;
  for_row_groups<kMost>(count, [&]<int Rows>(int64_t row) {
    score_rows<Rows>(rows + row, block, tile.source->k_dim, ahead, scores + row * kAttentionBlock);
  });
  weigh_rows(tile, row_begin, count, block.begin, state);
  for_row_groups<kMost>(count, [&]<int Rows>(int64_t row) {
    value_rows<Rows>(rows + row, block, scores + row * kAttentionBlock, values + row * v_dim, v_dim, ahead);
  });
}

// What some row of [row_begin, row_end) sees of the block at `begin`.
struct SeenBlock {
  int64_t row_begin;
  int64_t row_end;
  int64_t begin;
  int64_t first;
  int64_t end;
  int64_t count() const { return row_end - row_begin; }
};

template <typename T>
inline Block<T> find_seen(const AttentionTile& tile, const SeenBlock& seen) {
  Block<T> block;
  block.begin = seen.begin;
  block.first = seen.first;
  block.end = seen.end;
  find_block(*tile.source, block);
  return block;
}

// What is read after a block.
inline KvStretch after_block(const AttentionTile& tile, const SeenBlock& seen) {
  const int64_t next = seen.begin + kAttentionBlock, end = tile.rows[tile.count - 1].last + 1;
  if (next >= end) return tile.after;
  return {tile.source, next, smaller(next + kAttentionBlock, end)};
}

#if defined(SHOAL_ISA_AMX)
SHOAL_INLINE void begin_pairs(const AttentionTile& tile) {
  uint32_t* queries = tile_panels(tile).queries;
  if (by_vectors(tile)) return round_few_queries(tile, reinterpret_cast<float*>(queries));
  turn_queries(tile, queries);
  TileShapes().configure();
}
SHOAL_INLINE void end_pairs() { release_tiles(); }

// As attend_block, over a bf16 cache.
inline void attend_pairs(const AttentionTile& tile, const SeenBlock& seen, const AttentionState& state) {
  Fetch ahead(after_block(tile, seen));
  const auto attend = by_vectors(tile) ? attend_few : attend_tiles;
  attend(tile, seen.row_begin, seen.row_end, find_seen<uint16_t>(tile, seen), ahead, state);
}
#elif defined(SHOAL_ISA_AVX512BF16)
struct Panels {
  uint32_t* queries;  // of the tile
  uint32_t* keys;     // of a block
  uint32_t* values;
};
SHOAL_INLINE Panels panels_of(const AttentionTile& tile) {
  const int64_t pairs = pairs_of(tile.source->k_dim);
  auto* const queries = reinterpret_cast<uint32_t*>(wide_keys(tile));
  auto* const keys = queries + kAttentionTileRows * pairs;
  return {.queries = queries, .keys = keys, .values = keys + kAttentionBlock * pairs};
}

SHOAL_INLINE void begin_pairs(const AttentionTile& tile) { round_queries(tile, panels_of(tile).queries); }
SHOAL_INLINE void end_pairs() {}

// As attend_block, over a bf16 cache.
inline void attend_pairs(const AttentionTile& tile, const SeenBlock& seen_block, const AttentionState& state) {
  const Block<uint16_t> block = find_seen<uint16_t>(tile, seen_block);
  Fetch ahead(after_block(tile, seen_block));
  const int64_t row_begin = seen_block.row_begin, count = seen_block.count();
  const KvSource& source = *tile.source;
  const QueryRow* rows = tile.rows + row_begin;
  const int64_t pairs = pairs_of(source.k_dim), v_dim = source.v_dim;
  const Panels panels = panels_of(tile);
  const uint32_t* queries = panels.queries + row_begin * pairs;
  float* scores = tile.scratch;
  const auto seen_by = [&](int64_t row, int64_t last) {
    return Visible{visible_in(rows[row], block.begin).begin, visible_in(rows[last], block.begin).end};
  };
  const auto weighted = [&](int64_t row, int64_t last) {
    const Visible seen = seen_by(row, last);
    return PairTile{.weights = reinterpret_cast<const uint32_t*>(scores) + row * kAttentionBlock,
                    .begin = seen.begin / 2,
                    .end = (seen.end + 1) / 2,
                    .out = state.values + (row_begin + row) * v_dim,
                    .stride = v_dim};
  };
  const auto weigh_all = [&] {
    weigh_rows(tile, row_begin, count, block.begin, state);
    for (int64_t row = 0; row < count; ++row) round_weights(scores + row * kAttentionBlock);
  };
  if (count <= kFewRows) {
    return with_few(count, [&]<int Rows>() {
      score_few<Rows>(queries, block, source.k_dim, seen_by(0, Rows - 1), ahead, scores);
      weigh_all();
      const PairTile all = weighted(0, Rows - 1);
      for_columns<Rows <= 2 ? 8 : 4, 2>(v_dim, [&]<int Vectors>(int64_t column, int64_t columns) {
        few_tile<Rows, Vectors>(all, block, column, columns, ahead);
      });
    });
  }
  turn_keys(block, source.k_dim, ahead, panels.keys);
  for_row_groups<kPairRows>(count, [&]<int Rows>(int64_t row) {
    score_pairs<Rows>(queries + row * pairs, pairs, panels.keys, seen_by(row, row + Rows - 1), ahead,
                      scores + row * kAttentionBlock);
  });
  interleave_values(block, v_dim, ahead, panels.values);
  weigh_all();
  for_row_groups<kPairRows>(count, [&]<int Rows>(int64_t row) {
    const PairTile group = weighted(row, row + Rows - 1);
    const ValuePanel values = {panels.values, round_up_32(v_dim)};
    for_columns<4, 1>(v_dim, [&]<int Vectors>(int64_t column, int64_t columns) {
      pair_tile<Rows, Vectors>(group, values, column, columns, ahead);
    });
  });
}
#endif

template <typename T>
inline void attend_narrow(const AttentionTile& tile, const SeenBlock& seen, const AttentionState& state) {
  const Block<T> narrow = find_seen<T>(tile, seen);
  Fetch ahead(after_block(tile, seen));
  if (seen.count() < kWidenFromRows) return attend_block(tile, seen.row_begin, seen.count(), narrow, ahead, state);
  Block<float> block;
  widen_block(*tile.source, narrow, ahead, wide_keys(tile), block);
  NoFetch nothing;
  attend_block(tile, seen.row_begin, seen.count(), block, nothing, state);
}

inline void attend_wide(const AttentionTile& tile, const SeenBlock& seen, const AttentionState& state) {
  const Block<float> block = find_seen<float>(tile, seen);
  if (seen.count() <= kFewRows) {
    Fetch ahead(after_block(tile, seen));
    return attend_block(tile, seen.row_begin, seen.count(), block, ahead, state);
  }
  NoFetch nothing;
  attend_block(tile, seen.row_begin, seen.count(), block, nothing, state);
}

// Rows [row_begin, row_end) see something of the block at `begin`.
inline void attend_rows(const AttentionTile& tile, int64_t row_begin, int64_t row_end, int64_t begin,
                        const AttentionState& state) {
  const SeenBlock seen = {.row_begin = row_begin,
                          .row_end = row_end,
                          .begin = begin,
                          .first = larger(begin, tile.rows[row_begin].first),
                          .end = smaller(begin + kAttentionBlock, tile.rows[row_end - 1].last + 1)};
  if (seen.first >= seen.end) return;
  switch (tile.source->element) {
    case KvElement::kF32:
      return attend_wide(tile, seen, state);
    case KvElement::kBF16:
#if defined(SHOAL_BF16_PAIRS)
      return attend_pairs(tile, seen, state);
#else
      return attend_narrow<uint16_t>(tile, seen, state);
#endif
    case KvElement::kF8E4M3:
      return attend_narrow<uint8_t>(tile, seen, state);
  }
}

inline void attend(const AttentionTile& tile, int64_t begin, int64_t end, const AttentionState& state) {
  for (int64_t row = 0; row < tile.count; ++row) {
    state.maximum[row] = kMinusInfinity;
    state.sum[row] = 0.0f;
  }
  const int64_t elements = tile.count * tile.source->v_dim;
  for (int64_t i = 0; i < elements; ++i) state.values[i] = 0.0f;
#if defined(SHOAL_BF16_PAIRS)
  const bool pairs = tile.source->element == KvElement::kBF16;
  if (pairs) begin_pairs(tile);
#endif
  int64_t row_begin = 0, row_end = 0;
  for (int64_t block = begin; block < end; block += kAttentionBlock) {
    while (row_begin < tile.count && tile.rows[row_begin].last < block) ++row_begin;
    while (row_end < tile.count && tile.rows[row_end].first < block + kAttentionBlock) ++row_end;
    if (row_begin < row_end) attend_rows(tile, row_begin, row_end, block, state);
  }
#if defined(SHOAL_BF16_PAIRS)
  if (pairs) end_pairs();
#endif
}

inline void merge(const AttentionState& total, const AttentionState& part, int64_t rows, int64_t v_dim) {
  for (int64_t row = 0; row < rows; ++row) {
    const float before = total.maximum[row], here = part.maximum[row];
    if (here == kMinusInfinity) continue;
    const float now = before > here ? before : here;
    const bool fresh = before == kMinusInfinity;
    const float old_factor = fresh ? 0.0f : exp1(before - now), factor = exp1(here - now);
    total.maximum[row] = now;
    total.sum[row] = fresh ? part.sum[row] : __builtin_fmaf(part.sum[row], factor, total.sum[row] * old_factor);
    float* to = total.values + row * v_dim;
    const float* from = part.values + row * v_dim;
    for (int64_t i = 0; i < v_dim; i += 16) {
      const F32x16 added = load16(from + i, v_dim - i), kept = load16(to + i, v_dim - i) * set1(old_factor);
      store16(to + i, fresh ? added : fma16(added, set1(factor), kept), v_dim - i);
    }
  }
}

inline void finish(const AttentionState& state, int64_t row, int64_t v_dim, const float* sink, float* out) {
  float sum = state.sum[row];
  if (sink) sum += exp1(*sink - state.maximum[row]);
  const float inverse = 1.0f / sum;
  const float* values = state.values + row * v_dim;
  // Some paths flush tiny sums to -0, which stays only if no position of weight 0 came afterwards; adding 0 makes both 0.
  for (int64_t i = 0; i < v_dim; i += 16)
    store16(out + i, load16(values + i, v_dim - i) * set1(inverse) + zero16(), v_dim - i);
}

constexpr AttentionKernels kAttentionKernels = {.attend = attend, .merge = merge, .finish = finish};

}  // namespace
}  // namespace shoal::SHOAL_ISA
