// SPDX-License-Identifier: Apache-2.0
// Where the rows of K and V of one block of 64 positions are, and which of them a query sees. For attention_<path>.cc only.
#pragma once

#include "backend/cpu/attention.h"
#include "backend/cpu/simd_float8.h"

namespace shoal::SHOAL_ISA {
namespace {

SHOAL_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
SHOAL_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// One block's part of a tile: rows [0, count) all see something of positions [begin, begin + 64).
template <typename T>
struct Block {
  const T* k[kAttentionBlock];  // by position - begin; those outside [first, end) repeat the nearest inside
  const T* v[kAttentionBlock];
  const T* next_k[kAttentionBlock];  // the next block's, to fetch meanwhile; else k
  int64_t begin;
  int64_t first;  // positions that some row sees
  int64_t end;
};

// K or V in the pages; strides in elements.
template <typename T>
struct PagedRows {
  const T* base;
  int64_t page_stride;
  int64_t row_stride;
};

// Which rows of K (or V) the block's positions are.
template <typename T>
inline void find_rows(const KvSource& source, const PagedRows<T>& paged, const Block<T>& block, const T** rows) {
  int64_t page = block.first / source.tokens_per_block;
  int64_t offset = block.first - page * source.tokens_per_block;
  for (int64_t position = block.first; position < block.end; ++page, offset = 0) {
    const T* row = paged.base + source.pages[page] * paged.page_stride + offset * paged.row_stride;
    const int64_t stop = smaller(block.end, position + source.tokens_per_block - offset);
    for (; position < stop; ++position, row += paged.row_stride) rows[position - block.begin] = row;
  }
  const int64_t first = block.first - block.begin, end = block.end - block.begin;
  for (int64_t i = 0; i < first; ++i) rows[i] = rows[first];
  for (int64_t i = end; i < kAttentionBlock; ++i) rows[i] = rows[end - 1];
}

// `seen`: the end of what some row sees, in this block and after it.
template <typename T>
inline void find_block(const KvSource& source, int64_t seen, Block<T>& block) {
  const PagedRows<T> k = {static_cast<const T*>(source.k), source.k_page_stride, source.k_dim};
  const PagedRows<T> v = {static_cast<const T*>(source.v), source.v_page_stride, source.v_row_stride};
  find_rows(source, k, block, block.k);
  find_rows(source, v, block, block.v);
  const int64_t next = block.begin + kAttentionBlock;
  if (next < seen) {
    Block<T> after;
    after.begin = after.first = next;
    after.end = smaller(next + kAttentionBlock, seen);
    find_rows(source, k, after, block.next_k);
  } else {
    find_rows(source, k, block, block.next_k);
  }
}

SHOAL_INLINE F32x16 widened(const uint16_t* p, int64_t n) { return load16_bf16(p, n); }
SHOAL_INLINE F32x16 widened(const uint8_t* p, int64_t n) { return load16_f8(p, n); }

template <typename T>
inline void widen_rows(const T* const* rows, int64_t dim, float* scratch, const float** wide) {
  const int64_t stride = round_up_16(dim);
  for (int64_t j = 0; j < kAttentionBlock; ++j) {
    const bool repeated = j > 0 && rows[j] == rows[j - 1];
    wide[j] = repeated ? wide[j - 1] : scratch + j * stride;
    if (repeated) continue;
    for (int64_t i = 0; i < dim; i += 16) store16(scratch + j * stride + i, widened(rows[j] + i, dim - i));
  }
}

template <typename T>
inline void widen_block(const KvSource& source, const Block<T>& narrow, float* scratch, Block<float>& wide) {
  wide.begin = narrow.begin;
  wide.first = narrow.first;
  wide.end = narrow.end;
  widen_rows(narrow.k, source.k_dim, scratch, wide.k);
  for (int64_t j = 0; j < kAttentionBlock; ++j) wide.next_k[j] = wide.k[j];
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

}  // namespace
}  // namespace shoal::SHOAL_ISA
