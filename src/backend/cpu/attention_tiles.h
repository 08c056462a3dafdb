// SPDX-License-Identifier: Apache-2.0
// The two products of attention in registers: scores of a few rows with a few keys, and weighted values of a few rows over
// a few columns. A (row, key) or (row, column) pair is one chain of its own, so the shape of a tile changes no bit.
// For attention_<path>.cc only.
#pragma once

#include "backend/cpu/attention_reduce.h"

namespace shoal::SHOAL_ISA {
namespace {

SHOAL_INLINE F32x16 load_kv(const float* p) { return load16(p); }
SHOAL_INLINE F32x16 load_kv(const uint16_t* p) { return load16_bf16(p); }
SHOAL_INLINE F32x16 load_kv(const uint8_t* p) { return load16_f8(p); }
SHOAL_INLINE F32x16 load_kv(const float* p, int64_t n) { return load16(p, n); }
SHOAL_INLINE F32x16 load_kv(const uint16_t* p, int64_t n) { return load16_bf16(p, n); }
SHOAL_INLINE F32x16 load_kv(const uint8_t* p, int64_t n) { return load16_f8(p, n); }

// Tiles of fewer rows wait for memory, and fetch what comes next; taller ones find all in a cache.
template <int Rows, typename T>
SHOAL_INLINE void fetch_ahead(const T* p, int64_t column) {
  constexpr int64_t kLineElements = 64 / sizeof(T);
  if (Rows < 4 && column % kLineElements == 0) __builtin_prefetch(p + column);
}

// scores[r][key] for `Rows` rows and kTile / Rows keys; rows of scores are kAttentionBlock apart.
template <int Rows, typename T>
SHOAL_INLINE void dot_tile(const QueryRow* rows, const T* const* k, const T* const* ahead, int64_t dim, float* scores) {
  constexpr int kKeys = kTile / Rows;
  F32x16 sums[kTile];
  for (int i = 0; i < kTile; ++i) sums[i] = zero16();
  int64_t d = 0;
  for (; d + 16 <= dim; d += 16) {
    F32x16 q[Rows];
    for (int r = 0; r < Rows; ++r) q[r] = load16(rows[r].q + d);
    for (int key = 0; key < kKeys; ++key) {
      fetch_ahead<Rows>(ahead[key], d);
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

template <int Rows, int Vectors, typename T>
SHOAL_INLINE void value_tile(const ValueTile& tile, const T* const* v, const T* const* ahead, int64_t column) {
  F32x16 sums[Rows * Vectors];
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < Vectors; ++c) sums[r * Vectors + c] = load16(tile.out + r * tile.stride + column + 16 * c);
  for (int64_t j = tile.begin; j < tile.end; ++j) {
    const T* row = v[j] + column;
    F32x16 values[Vectors];
    for (int c = 0; c < Vectors; ++c) {
      fetch_ahead<Rows>(ahead[j], column + 16 * c);
      values[c] = load_kv(row + 16 * c);
    }
    for (int r = 0; r < Rows; ++r) {
      const F32x16 weight = set1(tile.weights[r * kAttentionBlock + j]);
      for (int c = 0; c < Vectors; ++c) sums[r * Vectors + c] = fma16(weight, values[c], sums[r * Vectors + c]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < Vectors; ++c) store16(tile.out + r * tile.stride + column + 16 * c, sums[r * Vectors + c]);
}

// The last columns, fewer than 16.
template <int Rows, typename T>
SHOAL_INLINE void value_tail(const ValueTile& tile, const T* const* v, int64_t column, int64_t count) {
  F32x16 sums[Rows];
  for (int r = 0; r < Rows; ++r) sums[r] = load16(tile.out + r * tile.stride + column, count);
  for (int64_t j = tile.begin; j < tile.end; ++j) {
    const F32x16 values = load_kv(v[j] + column, count);
    for (int r = 0; r < Rows; ++r) sums[r] = fma16(set1(tile.weights[r * kAttentionBlock + j]), values, sums[r]);
  }
  for (int r = 0; r < Rows; ++r) store16(tile.out + r * tile.stride + column, sums[r], count);
}

// Columns [column, dim), as many vectors at once as registers allow.
template <int Rows, int Vectors, typename T>
SHOAL_INLINE void value_columns(const ValueTile& tile, const T* const* v, const T* const* ahead, int64_t column,
                                int64_t dim) {
  for (; column + 16 * Vectors <= dim; column += 16 * Vectors) value_tile<Rows, Vectors>(tile, v, ahead, column);
  if constexpr (Vectors > 1) {
    value_columns<Rows, Vectors / 2>(tile, v, ahead, column, dim);
  } else if (column < dim) {
    value_tail<Rows>(tile, v, column, dim - column);
  }
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
