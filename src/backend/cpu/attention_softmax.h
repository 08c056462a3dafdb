// SPDX-License-Identifier: Apache-2.0
// The online softmax of attention (attention.h): scores of a block become weights, and the state of each row is brought up to date.
// For attention_<path>.cc only.
#pragma once

#include "backend/cpu/attention_blocks.h"
#include "backend/cpu/attention_reduce.h"

namespace shoal::SHOAL_ISA {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();

SHOAL_INLINE float exp1(float x) { return reduce_max(exp16(set1(x))); }

// Of one row, as in AttentionState.
struct RowState {
  float& maximum;
  float& sum;
  float* values;
};

// What a row does not see scores minus infinity.
SHOAL_INLINE void mask_row(Visible visible, float* scores) {
  for (int64_t j = 0; j < visible.begin; ++j) scores[j] = kMinusInfinity;
  for (int64_t j = visible.end; j < kAttentionBlock; ++j) scores[j] = kMinusInfinity;
}

SHOAL_INLINE F32x16 highest(const float* scores, F32x16 scale) {
  F32x16 scaled[4];
  for (int i = 0; i < 4; ++i) scaled[i] = load16(scores + 16 * i) * scale;
  return max16(max16(scaled[0], scaled[1]), max16(scaled[2], scaled[3]));
}

// Masked scores become weights relative to `maximum`; their sum by lanes.
SHOAL_INLINE F32x16 weigh(float* scores, F32x16 scale, F32x16 maximum) {
  F32x16 weights[4];
  for (int i = 0; i < 4; ++i) {
    weights[i] = exp16(load16(scores + 16 * i) * scale - maximum);
    store16(scores + 16 * i, weights[i]);
  }
  return (weights[0] + weights[1]) + (weights[2] + weights[3]);
}

SHOAL_INLINE void scale_values(float* values, int64_t v_dim, float factor) {
  for (int64_t i = 0; i < v_dim; i += 16) store16(values + i, load16(values + i, v_dim - i) * set1(factor), v_dim - i);
}

// scores [64] of one row become its weights, 0 where it sees nothing; the state is brought up to date but for the new values.
inline void weigh_row(Visible visible, float scale, float* scores, const RowState& state, int64_t v_dim) {
  mask_row(visible, scores);
  const float here = reduce_max(highest(scores, set1(scale)));
  const float before = state.maximum;
  const float now = before > here ? before : here;
  const bool blind = now == kMinusInfinity;  // it sees nothing of what is here, nor yet of anything
  const float added = reduce_add(weigh(scores, set1(scale), set1(blind ? 0.0f : now)));
  state.maximum = now;
  if (now == before || before == kMinusInfinity) {
    state.sum += added;
    return;
  }
  const float factor = exp1(before - now);
  state.sum = __builtin_fmaf(state.sum, factor, added);
  scale_values(state.values, v_dim, factor);
}

#if defined(SHOAL_WIDE_VECTORS)
// weigh_row of sixteen rows, the same bits: what is one number a row is a lane.
inline void weigh_sixteen(const QueryRow* rows, int64_t block, float scale, float* scores, const RowState& state,
                          int64_t v_dim) {
  const F32x16 none = set1(kMinusInfinity);
  F32x16 lanes[16];
  for (int r = 0; r < 16; ++r) {
    mask_row(visible_in(rows[r], block), scores + r * kAttentionBlock);
    lanes[r] = highest(scores + r * kAttentionBlock, set1(scale));
  }
  const F32x16 before = load16(&state.maximum), now = max16(before, reduce_tile<MaxLanes>(lanes));
  float maxima[16], factors[16];
  store16(maxima, select_less(none, now, now, zero16()));
  for (int r = 0; r < 16; ++r) lanes[r] = weigh(scores + r * kAttentionBlock, set1(scale), set1(maxima[r]));
  // 1 where nothing changes, and 0 where all before was nothing.
  const F32x16 factor = exp16(before - load16(maxima));
  store16(factors, factor);
  store16(&state.sum, fma16(load16(&state.sum), factor, reduce_tile<AddLanes>(lanes)));
  for (int r = 0; r < 16; ++r)
    if ((&state.maximum)[r] != maxima[r] && (&state.maximum)[r] != kMinusInfinity)
      scale_values(state.values + r * v_dim, v_dim, factors[r]);
  store16(&state.maximum, now);
}
#endif

// All rows [row_begin, row_begin + count) of a tile.
inline void weigh_rows(const AttentionTile& tile, int64_t row_begin, int64_t count, int64_t block,
                       const AttentionState& state) {
  const QueryRow* rows = tile.rows + row_begin;
  const int64_t v_dim = tile.source->v_dim;
  float* scores = tile.scratch;
  const auto state_of = [&](int64_t row) {
    return RowState{state.maximum[row_begin + row], state.sum[row_begin + row],
                    state.values + (row_begin + row) * v_dim};
  };
  int64_t row = 0;
#if defined(SHOAL_WIDE_VECTORS)
  for (; row + 16 <= count; row += 16)
    weigh_sixteen(rows + row, block, tile.scale, scores + row * kAttentionBlock, state_of(row), v_dim);
#endif
  for (; row < count; ++row)
    weigh_row(visible_in(rows[row], block), tile.scale, scores + row * kAttentionBlock, state_of(row), v_dim);
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
