// SPDX-License-Identifier: Apache-2.0
// Filling of panels (gemm.h) from rows as they lie in a file or in memory: blocks of 16 rows by 16 words are turned in registers, so that
// both sides are read and written by whole cache lines. For gemm_kernels.h only.
#pragma once

#include "backend/cpu/gemm.h"
#include "backend/cpu/simd.h"

namespace shoal::SHOAL_ISA {
namespace {

constexpr int kBlock = 16;

// The kinds of source: `words` gives up to 16 of a row's 32-bit words, from word `first` of `k` elements on, zero past its end.
struct Float32Words {
  static int64_t count(int64_t k) { return k; }
  static SHOAL_INLINE F32x16 words(const char* row, int64_t first, int64_t k) {
    const auto* from = reinterpret_cast<const float*>(row) + first;
    return load16(from, k - first);
  }
};

// Two consecutive bf16 are a word already.
struct Bf16Words {
  static int64_t count(int64_t k) { return (k + 1) / 2; }
  static SHOAL_INLINE F32x16 words(const char* row, int64_t first, int64_t k) {
    if (2 * (first + kBlock) <= k) return load16(reinterpret_cast<const float*>(row + 4 * first));
    float last[kBlock] = {};
    __builtin_memcpy(last, row + 4 * first, static_cast<size_t>(2 * (k - 2 * first)));
    return load16(last);
  }
};

struct Float32ToBf16Words {
  static int64_t count(int64_t k) { return (k + 1) / 2; }
  static SHOAL_INLINE F32x16 words(const char* row, int64_t first, int64_t k) {
    const auto* from = reinterpret_cast<const float*>(row) + 2 * first;
    const int64_t left = k - 2 * first;
    uint16_t rounded[2 * kBlock];
    store16_bf16(rounded, load16(from, left));
    store16_bf16(rounded + kBlock, left > kBlock ? load16(from + kBlock, left - kBlock) : zero16());
    float words[kBlock];
    __builtin_memcpy(words, rounded, sizeof words);
    return load16(words);
  }
};

template <class Words>
void pack_rows(const PackRows& p) {
  const auto* rows = static_cast<const char*>(p.rows);
  const int64_t units = Words::count(p.k);
  for (int64_t r = 0; r < p.count; r += kBlock) {  // sixteen rows at a time: as many streams as the prefetchers follow
    const int64_t height = p.count - r < kBlock ? p.count - r : kBlock;
    for (int64_t first = 0; first < units; first += kBlock) {
      const int64_t n = units - first < kBlock ? units - first : kBlock;
      F32x16 block[kBlock];
      for (int64_t i = 0; i < height; ++i) {
        const char* row = rows + (r + i) * p.stride;
        __builtin_prefetch(row + kBlock * p.stride + 4 * first, 0, 2);  // the same place of the next sixteen rows
        block[i] = Words::words(row, first, p.k);
      }
      for (int64_t i = height; i < kBlock; ++i) block[i] = zero16();
      transpose16(block);
      for (int64_t i = 0; i < n; ++i)
        store16(reinterpret_cast<float*>(p.target + (first + i) * p.columns + r), block[i], height);
    }
  }
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
