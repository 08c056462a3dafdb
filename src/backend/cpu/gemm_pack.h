// SPDX-License-Identifier: Apache-2.0
// Filling of panels (gemm.h) from rows as they lie in a file or in memory: blocks of 16 rows by 16 words are turned in registers, so that
// both sides are read and written by whole cache lines. For gemm_kernels.h only.
#pragma once

#include "backend/cpu/gemm.h"
#include "backend/cpu/simd.h"

namespace shoal::SHOAL_ISA {
namespace {

constexpr int kBlock = kPackRows;

// The kinds of source: a word holds kPerWord elements of kBytes each in the source. words() gives the up to 16 words of the `left` > 0
// elements from `from` on, zero past their end; with a constant `left` of 16 words or more, no branch or mask stays.
struct Float32Words {
  static constexpr int kPerWord = 1, kBytes = 4;
  static SHOAL_INLINE F32x16 words(const char* from, int64_t left) {
    return load16(reinterpret_cast<const float*>(from), left);
  }
};

// Two consecutive bf16 are a word already.
struct Bf16Words {
  static constexpr int kPerWord = 2, kBytes = 2;
  static SHOAL_INLINE F32x16 words(const char* from, int64_t left) {
    if (left >= kPerWord * kBlock) return load16(reinterpret_cast<const float*>(from));
    float last[kBlock] = {};
    __builtin_memcpy(last, from, static_cast<size_t>(kBytes * left));
    return load16(last);
  }
};

struct Float32ToBf16Words {
  static constexpr int kPerWord = 2, kBytes = 4;
  static SHOAL_INLINE F32x16 words(const char* from, int64_t left) {
    const auto* values = reinterpret_cast<const float*>(from);
    uint16_t rounded[2 * kBlock];
    store16_bf16(rounded, load16(values, left));
    store16_bf16(rounded + kBlock, left > kBlock ? load16(values + kBlock, left - kBlock) : zero16());
    float words[kBlock];
    __builtin_memcpy(words, rounded, sizeof words);
    return load16(words);
  }
};

// Turns `height` rows by the up to 16 words of `left` elements.
// A whole block. With narrow vectors a quarter at a time, which is as much as stays in registers.
template <class Words>
SHOAL_INLINE void pack_whole(const PackRows& p, const char* from, uint32_t* target) {
  for (int64_t i = 0; i < kBlock; ++i) __builtin_prefetch(from + (kBlock + i) * p.stride, 0, 2);
  turn16([&](int i) { return Words::words(from + i * p.stride, kBlock * Words::kPerWord); },
         reinterpret_cast<float*>(target), p.columns);
}

template <class Words>
SHOAL_INLINE void pack_block(const PackRows& p, const char* from, int64_t height, int64_t left, uint32_t* target) {
  F32x16 block[kBlock];
  for (int64_t i = 0; i < height; ++i) {
    const char* row = from + i * p.stride;
    __builtin_prefetch(row + kBlock * p.stride, 0, 2);  // the same place of the next sixteen rows
    block[i] = Words::words(row, left);
  }
  for (int64_t i = height; i < kBlock; ++i) block[i] = zero16();
  transpose16(block);
  const int64_t units = (left + Words::kPerWord - 1) / Words::kPerWord;
  const int64_t n = units < kBlock ? units : kBlock;
  for (int64_t i = 0; i < n; ++i) store16(reinterpret_cast<float*>(target + i * p.columns), block[i], height);
}

template <class Words>
void pack_rows(const PackRows& p) {
  constexpr int64_t kWhole = kBlock * Words::kPerWord;  // elements of a whole block's row
  for (int64_t r = 0; r < p.count; r += kBlock) {  // sixteen rows at a time: as many streams as the prefetchers follow
    const char* from = static_cast<const char*>(p.rows) + r * p.stride;
    uint32_t* target = p.target + r;
    const int64_t height = p.count - r < kBlock ? p.count - r : kBlock;
    int64_t left = p.k;
    if (height == kBlock) {
      for (; left >= kWhole; left -= kWhole, from += kWhole * Words::kBytes, target += kBlock * p.columns)
        pack_whole<Words>(p, from, target);
    }
    for (; left > 0; left -= kWhole, from += kWhole * Words::kBytes, target += kBlock * p.columns)
      pack_block<Words>(p, from, height, left, target);
  }
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
