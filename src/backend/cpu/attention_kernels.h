// SPDX-License-Identifier: Apache-2.0
// Bodies of AttentionKernels (attention.h), for attention_<path>.cc only.
#pragma once

#include "backend/cpu/attention.h"
#include "backend/cpu/simd.h"
// In this order: the tiles use both.
#include "backend/cpu/attention_tiles.h"

namespace shoal::SHOAL_ISA {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();
// With fewer rows, each element of bf16 K and V is widened where it is used.
constexpr int64_t kWidenFromRows = 4;

SHOAL_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
SHOAL_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

SHOAL_INLINE float exp1(float x) { return reduce_max(exp16(set1(x))); }

// One block's part of a tile: rows [0, count) all see something of positions [begin, begin + 64).
template <typename T>
struct Block {
  const T* k[kAttentionBlock];  // by position - begin; those outside [first, end) repeat the nearest inside
  const T* v[kAttentionBlock];
  int64_t begin;
  int64_t first;  // positions that some row sees
  int64_t end;
};

// Which rows of K (or V) the block's positions are.
template <typename T>
inline void find_rows(const KvSource& source, const T* base, int64_t page_stride, int64_t row_stride, int64_t begin,
                      int64_t first, int64_t end, const T** rows) {
  int64_t page = first / source.tokens_per_block;
  int64_t offset = first - page * source.tokens_per_block;
  for (int64_t position = first; position < end; ++page, offset = 0) {
    const T* row = base + source.pages[page] * page_stride + offset * row_stride;
    const int64_t stop = smaller(end, position + source.tokens_per_block - offset);
    for (; position < stop; ++position, row += row_stride) rows[position - begin] = row;
  }
  for (int64_t i = 0; i < first - begin; ++i) rows[i] = rows[first - begin];
  for (int64_t i = end - begin; i < kAttentionBlock; ++i) rows[i] = rows[end - begin - 1];
}

template <typename T>
inline void find_block(const KvSource& source, Block<T>& block) {
  const T* k = static_cast<const T*>(source.k);
  const T* v = static_cast<const T*>(source.v);
  find_rows(source, k, source.k_page_stride, source.k_dim, block.begin, block.first, block.end, block.k);
  find_rows(source, v, source.v_page_stride, source.v_row_stride, block.begin, block.first, block.end, block.v);
}

inline void widen_rows(const uint16_t* const* rows, int64_t dim, float* scratch, const float** wide) {
  const int64_t stride = round_up_16(dim);
  for (int64_t j = 0; j < kAttentionBlock; ++j) {
    const bool repeated = j > 0 && rows[j] == rows[j - 1];
    wide[j] = repeated ? wide[j - 1] : scratch + j * stride;
    if (repeated) continue;
    for (int64_t i = 0; i < dim; i += 16) store16(scratch + j * stride + i, load16_bf16(rows[j] + i, dim - i));
  }
}

inline void widen_block(const KvSource& source, const Block<uint16_t>& narrow, float* scratch, Block<float>& wide) {
  wide.begin = narrow.begin;
  wide.first = narrow.first;
  wide.end = narrow.end;
  widen_rows(narrow.k, source.k_dim, scratch, wide.k);
  if (source.v == source.k) {
    for (int64_t j = 0; j < kAttentionBlock; ++j) wide.v[j] = wide.k[j];
  } else {
    widen_rows(narrow.v, source.v_dim, scratch + kAttentionBlock * round_up_16(source.k_dim), wide.v);
  }
}

// Positions that row sees of a block, relative to its begin.
struct Visible {
  int64_t begin;
  int64_t end;
};
SHOAL_INLINE Visible visible_in(const QueryRow& row, int64_t block) {
  return {larger(row.first - block, 0), smaller(row.last + 1 - block, kAttentionBlock)};
}

// Unscaled scores of `Rows` rows with every position that one of them sees (and a few more).
template <int Rows, typename T>
inline void score_rows(const QueryRow* rows, const Block<T>& block, int64_t dim, float* scores) {
  constexpr int64_t kKeys = kTile / Rows;
  const int64_t begin = visible_in(rows[0], block.begin).begin / kKeys * kKeys;
  const int64_t end = visible_in(rows[Rows - 1], block.begin).end;
  for (int64_t key = begin; key < end; key += kKeys) dot_tile<Rows>(rows, block.k + key, dim, scores + key);
}

// scores [64] of one row become its weights, 0 where it sees nothing; maximum, sum and values are brought up to date.
inline void weigh_row(Visible visible, float scale, float* scores, float& maximum, float& sum, float* values,
                      int64_t v_dim) {
  for (int64_t j = 0; j < visible.begin; ++j) scores[j] = kMinusInfinity;
  for (int64_t j = visible.end; j < kAttentionBlock; ++j) scores[j] = kMinusInfinity;
  F32x16 scaled[4];
  for (int i = 0; i < 4; ++i) scaled[i] = load16(scores + 16 * i) * set1(scale);
  const float here = reduce_max(max16(max16(scaled[0], scaled[1]), max16(scaled[2], scaled[3])));
  const float before = maximum;
  const float now = before > here ? before : here;
  for (int i = 0; i < 4; ++i) {
    scaled[i] = exp16(scaled[i] - set1(now));
    store16(scores + 16 * i, scaled[i]);
  }
  const float added = reduce_add((scaled[0] + scaled[1]) + (scaled[2] + scaled[3]));
  maximum = now;
  if (now == before || before == kMinusInfinity) {
    sum += added;
    return;
  }
  const float factor = exp1(before - now);
  sum = __builtin_fmaf(sum, factor, added);
  for (int64_t i = 0; i < v_dim; i += 16) store16(values + i, load16(values + i, v_dim - i) * set1(factor), v_dim - i);
}

// Values of `Rows` neighbouring rows. Where they do not see the same positions, each row takes its own edges by itself, still
// in order, so that a position which it does not see is never read for it.
template <int Rows, typename T>
inline void value_rows(const QueryRow* rows, const Block<T>& block, const float* weights, float* values,
                       int64_t v_dim) {
  constexpr int kVectors = Rows == 1 ? kTile / 2 : kTile / Rows;
  const Visible front = visible_in(rows[0], block.begin), back = visible_in(rows[Rows - 1], block.begin);
  const int64_t begin = back.begin, end = larger(front.end, back.begin);
  for (int r = 0; Rows > 1 && r < Rows; ++r) {
    const Visible own = visible_in(rows[r], block.begin);
    if (own.begin >= begin) continue;
    const ValueTile edge = {weights + r * kAttentionBlock, own.begin, smaller(own.end, begin), values + r * v_dim,
                            v_dim};
    value_columns<1, kTile / 2>(edge, block.v, 0, v_dim);
  }
  if (begin < end) value_columns<Rows, kVectors>(ValueTile{weights, begin, end, values, v_dim}, block.v, 0, v_dim);
  for (int r = 0; Rows > 1 && r < Rows; ++r) {
    const Visible own = visible_in(rows[r], block.begin);
    if (own.end <= end) continue;
    const ValueTile edge = {weights + r * kAttentionBlock, larger(own.begin, end), own.end, values + r * v_dim, v_dim};
    value_columns<1, kTile / 2>(edge, block.v, 0, v_dim);
  }
}

// Calls step<n>(row) over rows [0, count), n rows at a time: as many as a register tile takes, then fewer.
template <typename Step>
SHOAL_INLINE void for_row_groups(int64_t count, const Step& step) {
  int64_t row = 0;
  if constexpr (kTile >= 16)
    for (; row + 4 <= count; row += 4) step.template operator()<4>(row);
  for (; row + 2 <= count; row += 2) step.template operator()<2>(row);
  for (; row < count; ++row) step.template operator()<1>(row);
}

template <typename T>
inline void attend_block(const AttentionTile& tile, int64_t row_begin, int64_t count, const Block<T>& block,
                         const AttentionState& state) {
  const QueryRow* rows = tile.rows + row_begin;
  const int64_t v_dim = tile.source->v_dim;
  float* scores = tile.scratch;
  float* values = state.values + row_begin * v_dim;
  for_row_groups(count, [&]<int Rows>(int64_t row) {
    score_rows<Rows>(rows + row, block, tile.source->k_dim, scores + row * kAttentionBlock);
  });
  for (int64_t row = 0; row < count; ++row)
    weigh_row(visible_in(rows[row], block.begin), tile.scale, scores + row * kAttentionBlock,
              state.maximum[row_begin + row], state.sum[row_begin + row], values + row * v_dim, v_dim);
  for_row_groups(count, [&]<int Rows>(int64_t row) {
    value_rows<Rows>(rows + row, block, scores + row * kAttentionBlock, values + row * v_dim, v_dim);
  });
}

// Rows [row_begin, row_end) see something of the block at `begin`.
inline void attend_rows(const AttentionTile& tile, int64_t row_begin, int64_t row_end, int64_t begin,
                        const AttentionState& state) {
  const KvSource& source = *tile.source;
  const int64_t count = row_end - row_begin;
  const int64_t first = larger(begin, tile.rows[row_begin].first);
  const int64_t end = smaller(begin + kAttentionBlock, tile.rows[row_end - 1].last + 1);
  Block<float> block;
  block.begin = begin;
  block.first = first;
  block.end = end;
  if (!source.bf16) {
    find_block(source, block);
    return attend_block(tile, row_begin, count, block, state);
  }
  Block<uint16_t> narrow;
  narrow.begin = begin;
  narrow.first = first;
  narrow.end = end;
  find_block(source, narrow);
  if (count < kWidenFromRows) return attend_block(tile, row_begin, count, narrow, state);
  widen_block(source, narrow, tile.scratch + kAttentionBlock * kAttentionTileRows, block);
  attend_block(tile, row_begin, count, block, state);
}

inline void attend(const AttentionTile& tile, int64_t begin, int64_t end, const AttentionState& state) {
  for (int64_t row = 0; row < tile.count; ++row) {
    state.maximum[row] = kMinusInfinity;
    state.sum[row] = 0.0f;
  }
  const int64_t elements = tile.count * tile.source->v_dim;
  for (int64_t i = 0; i < elements; ++i) state.values[i] = 0.0f;
  int64_t row_begin = 0, row_end = 0;
  for (int64_t block = begin; block < end; block += kAttentionBlock) {
    while (row_begin < tile.count && tile.rows[row_begin].last < block) ++row_begin;
    while (row_end < tile.count && tile.rows[row_end].first < block + kAttentionBlock) ++row_end;
    if (row_begin < row_end) attend_rows(tile, row_begin, row_end, block, state);
  }
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
  const float* values = state.values + row * v_dim;
  for (int64_t i = 0; i < v_dim; i += 16) store16(out + i, load16(values + i, v_dim - i) / set1(sum), v_dim - i);
}

constexpr AttentionKernels kAttentionKernels = {.attend = attend, .merge = merge, .finish = finish};

}  // namespace
}  // namespace shoal::SHOAL_ISA
