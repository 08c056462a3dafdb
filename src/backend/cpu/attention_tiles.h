// SPDX-License-Identifier: Apache-2.0
// The two products of attention in registers: scores of a few rows with a few keys, and weighted values of a few rows over
// a few columns. A (row, key) or (row, column) pair is one chain of its own, so the shape of a tile changes no bit.
// For attention_<path>.cc only.
#pragma once

#include "backend/cpu/attention_blocks.h"
#include "backend/cpu/attention_reduce.h"

namespace shoal::SHOAL_ISA {
namespace {

SHOAL_INLINE F32x16 load_kv(const float* p) { return load16(p); }
SHOAL_INLINE F32x16 load_kv(const uint16_t* p) { return load16_bf16(p); }
SHOAL_INLINE F32x16 load_kv(const uint8_t* p) { return load16_f8(p); }
SHOAL_INLINE F32x16 load_kv(const float* p, int64_t n) { return load16(p, n); }
SHOAL_INLINE F32x16 load_kv(const uint16_t* p, int64_t n) { return load16_bf16(p, n); }
SHOAL_INLINE F32x16 load_kv(const uint8_t* p, int64_t n) { return load16_f8(p, n); }

// As much as `Vectors` sixteens of T.
template <int Vectors, typename T, class Ahead>
SHOAL_INLINE void fetch_as_many(Ahead& ahead) {
  ahead.template lines<(Vectors * 16 * static_cast<int>(sizeof(T)) + kLine - 1) / kLine>();
}

// scores[r][key] for `Rows` rows and kTile / Rows keys; rows of scores are kAttentionBlock apart.
template <int Rows, typename T, class Ahead>
SHOAL_INLINE void dot_tile(const QueryRow* rows, const T* const* k, Ahead& ahead, int64_t dim, float* scores) {
  constexpr int kKeys = kTile / Rows;
  F32x16 sums[kTile];
  for (int i = 0; i < kTile; ++i) sums[i] = zero16();
  int64_t d = 0;
  for (; d + 16 <= dim; d += 16) {
    F32x16 q[Rows];
    for (int r = 0; r < Rows; ++r) q[r] = load16(rows[r].q + d);
    fetch_as_many<kKeys, T>(ahead);
    for (int key = 0; key < kKeys; ++key) {
      const F32x16 keys = load_kv(k[key] + d);
      for (int r = 0; r < Rows; ++r) sums[r * kKeys + key] = fma16(q[r], keys, sums[r * kKeys + key]);
    }
  }
  if (d < dim) {
    for (int key = 0; key < kKeys; ++key) {
      const F32x16 keys = load_kv(k[key] + d, dim - d);
      for (int r = 0; r < Rows; ++r)
        sums[r * kKeys + key] = fma16(load16(rows[r].q + d, dim - d), keys, sums[r * kKeys + key]);
    }
  }
  float reduced[kTile];
  reduce_tile(sums, reduced);
  for (int r = 0; r < Rows; ++r) __builtin_memcpy(scores + r * kAttentionBlock, reduced + r * kKeys, kKeys * 4);
}

// Weighted values of `Rows` rows: out[r][c] += sum over positions j in [begin, end), in order, of weights[r][j] * v[j][c].
struct ValueTile {
  const float* weights;  // rows kAttentionBlock apart
  int64_t begin;
  int64_t end;
  float* out;  // rows `stride` apart
  int64_t stride;
};

// Columns [column, column + count): all of `Vectors` sixteens, or fewer than one.
template <int Rows, int Vectors, typename T, class Ahead>
SHOAL_INLINE void value_tile(const ValueTile& tile, const T* const* v, Ahead& ahead, int64_t column, int64_t count) {
  const auto width = [&](int c) { return Vectors > 1 ? 16 : count - 16 * c; };
  F32x16 sums[Rows * Vectors];
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < Vectors; ++c)
      sums[r * Vectors + c] = load16(tile.out + r * tile.stride + column + 16 * c, width(c));
  for (int64_t j = tile.begin; j < tile.end; ++j) {
    const T* row = v[j] + column;
    F32x16 values[Vectors];
    fetch_as_many<Vectors, T>(ahead);
    for (int c = 0; c < Vectors; ++c) values[c] = load_kv(row + 16 * c, width(c));
    for (int r = 0; r < Rows; ++r) {
      const F32x16 weight = set1(tile.weights[r * kAttentionBlock + j]);
      for (int c = 0; c < Vectors; ++c) sums[r * Vectors + c] = fma16(weight, values[c], sums[r * Vectors + c]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < Vectors; ++c)
      store16(tile.out + r * tile.stride + column + 16 * c, sums[r * Vectors + c], width(c));
}

// step<n>(column, count) for columns [0, dim) by vectors: as many at once as registers allow, then fewer, at last `Least`, of which the last may
// lack columns.
template <int Vectors, int Least, typename Step>
SHOAL_INLINE void for_columns(int64_t dim, const Step& step, int64_t column = 0) {
  constexpr int64_t kWidth = 16 * Vectors;
  for (; column + kWidth <= dim; column += kWidth) step.template operator()<Vectors>(column, kWidth);
  if constexpr (Vectors > Least) {
    for_columns<Vectors / 2, Least>(dim, step, column);
  } else if (column < dim) {
    step.template operator()<Least>(column, dim - column);
  }
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
