// SPDX-License-Identifier: Apache-2.0
// Where the rows of K and V of one block of 64 positions are, and which of them a query sees. For attention_<path>.cc only.
#pragma once

#include "backend/cpu/attention.h"
#include "backend/cpu/simd_float8.h"

namespace shoal::SHOAL_ISA {
namespace {

SHOAL_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
SHOAL_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

constexpr int64_t kFewRows = 4;  // of a tile that waits for memory rather than for arithmetic

// Calls step<count>() of at most kFewRows rows.
template <typename Step>
SHOAL_INLINE void with_few(int64_t count, const Step& step) {
  static_assert(kFewRows == 4);
  if (count == 1) return step.template operator()<1>();
  if (count == 2) return step.template operator()<2>();
  if (count == 3) return step.template operator()<3>();
  step.template operator()<4>();
}

// One block's part of a tile: rows [0, count) all see something of positions [begin, begin + 64).
template <typename T>
struct Block {
  const T* k[kAttentionBlock];  // by position - begin; those outside [first, end) repeat the nearest inside
  const T* v[kAttentionBlock];
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

// step(position, row, count) for each stretch of positions [first, end) whose rows lie side by side, from `row` on.
template <typename T, typename Step>
SHOAL_INLINE void for_stretches(const KvSource& source, const PagedRows<T>& paged, int64_t first, int64_t end,
                                const Step& step) {
  int64_t page = first / source.tokens_per_block;
  int64_t offset = first - page * source.tokens_per_block;
  for (int64_t position = first; position < end; ++page, offset = 0) {
    const int64_t count = smaller(end - position, source.tokens_per_block - offset);
    step(position, paged.base + source.pages[page] * paged.page_stride + offset * paged.row_stride, count);
    position += count;
  }
}

// Which rows of K (or V) the block's positions are.
template <typename T>
inline void find_rows(const KvSource& source, const PagedRows<T>& paged, const Block<T>& block, const T** rows) {
  for_stretches(source, paged, block.first, block.end, [&](int64_t position, const T* row, int64_t count) {
    for (int64_t i = 0; i < count; ++i) rows[position + i - block.begin] = row + i * paged.row_stride;
  });
  const int64_t first = block.first - block.begin, end = block.end - block.begin;
  for (int64_t i = 0; i < first; ++i) rows[i] = rows[first];
  for (int64_t i = end; i < kAttentionBlock; ++i) rows[i] = rows[end - 1];
}

template <typename T>
inline void find_block(const KvSource& source, Block<T>& block) {
  const PagedRows<T> keys = {static_cast<const T*>(source.k), source.k_page_stride, source.k_dim};
  const PagedRows<T> values = {static_cast<const T*>(source.v), source.v_page_stride, source.v_row_stride};
  find_rows(source, keys, block, block.k);
  find_rows(source, values, block, block.v);
}

constexpr int64_t element_bytes(KvElement element) {
  if (element == KvElement::kF32) return 4;
  return element == KvElement::kBF16 ? 2 : 1;
}

// Fetches K, then V of a few positions while others are computed. Evenly, since a core waits for few lines at a time, and into the second
// cache only, since for the first it waits for fewer still.
class Fetch {
 public:
  explicit Fetch(const KvStretch& what) {
    const KvSource& source = *what.source;
    const int64_t bytes = element_bytes(source.element);
    Stretch* last = stretches_;
    const auto add = [&](const void* base, int64_t page_stride, int64_t row_stride) {
      const PagedRows<char> rows = {static_cast<const char*>(base), page_stride * bytes, row_stride * bytes};
      for_stretches(source, rows, what.first, what.end, [&](int64_t, const char* row, int64_t count) {
        *last++ = {row, row + count * rows.row_stride};
      });
    };
    add(source.k, source.k_page_stride, source.k_dim);
    if (source.v != source.k) add(source.v, source.v_page_stride, source.v_row_stride);
    last->begin = nullptr;
    at_ = stretches_[0].begin;
  }

  template <int kLines>
  SHOAL_INLINE void lines() {
    if (at_ == nullptr) return;
#pragma GCC unroll 16
    for (int line = 0; line < kLines; ++line) __builtin_prefetch(at_ + line * kLine, 0, 2);
    at_ += kLines * kLine;
    if (at_ >= stretches_[stretch_].end) at_ = stretches_[++stretch_].begin;
  }

 private:
  struct Stretch {
    const char* begin;  // null after the last one
    const char* end;
  };
  Stretch stretches_[2 * kAttentionBlock + 1];
  int64_t stretch_ = 0;
  const char* at_ = nullptr;
};

// For tiles of more than a few rows over f32, where asking costs more than fetching gains.
struct NoFetch {
  template <int kLines>
  SHOAL_INLINE void lines() {}
};

SHOAL_INLINE F32x16 widened(const uint16_t* p, int64_t n) { return load16_bf16(p, n); }
SHOAL_INLINE F32x16 widened(const uint8_t* p, int64_t n) { return load16_f8(p, n); }

template <typename T>
inline void widen_rows(const T* const* rows, int64_t dim, Fetch& ahead, float* scratch, const float** wide) {
  const int64_t stride = round_up_16(dim);
  for (int64_t j = 0; j < kAttentionBlock; ++j) {
    const bool repeated = j > 0 && rows[j] == rows[j - 1];
    wide[j] = repeated ? wide[j - 1] : scratch + j * stride;
    if (repeated) continue;
    for (int64_t i = 0; i < dim; i += 16) store16(scratch + j * stride + i, widened(rows[j] + i, dim - i));
    for (int64_t i = 0; i < dim; i += kLine / sizeof(T)) ahead.lines<1>();
  }
}

template <typename T>
inline void widen_block(const KvSource& source, const Block<T>& narrow, Fetch& ahead, float* scratch,
                        Block<float>& wide) {
  wide.begin = narrow.begin;
  wide.first = narrow.first;
  wide.end = narrow.end;
  widen_rows(narrow.k, source.k_dim, ahead, scratch, wide.k);
  if (source.v == source.k) {
    for (int64_t j = 0; j < kAttentionBlock; ++j) wide.v[j] = wide.k[j];
  } else {
    widen_rows(narrow.v, source.v_dim, ahead, scratch + kAttentionBlock * round_up_16(source.k_dim), wide.v);
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
