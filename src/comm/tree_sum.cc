// SPDX-License-Identifier: Apache-2.0
#include "comm/tree_sum.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace shoal {
namespace {

// Floats added at a time: two buffers of each level of the recursion stay in the first-level cache.
constexpr int64_t kTile = 1024;

// The loops below read and write element i only, so `out` being one of the terms carries no dependence between iterations.
void add2(const float* a, const float* b, float* out, int64_t count) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
}

void add3(const float* a, const float* b, const float* c, float* out, int64_t count) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) out[i] = (a[i] + b[i]) + c[i];
}

void add4(std::array<const float*, 4> t, float* out, int64_t count) {
  const auto [a, b, c, d] = t;
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) out[i] = (a[i] + b[i]) + (c[i] + d[i]);
}

// Elements [begin, begin + count) of the terms, count <= kTile; out is the first of them. Written after every term has been read.
void sum_block(std::span<const float* const> terms, int64_t begin, float* out, int64_t count) {
  if (terms.size() == 1) {
    if (out != terms[0] + begin) std::memcpy(out, terms[0] + begin, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  if (terms.size() == 2) return add2(terms[0] + begin, terms[1] + begin, out, count);
  if (terms.size() == 3) return add3(terms[0] + begin, terms[1] + begin, terms[2] + begin, out, count);
  if (terms.size() == 4)
    return add4({terms[0] + begin, terms[1] + begin, terms[2] + begin, terms[3] + begin}, out, count);
  std::array<float, kTile> left;
  std::array<float, kTile> right;
  const size_t split = left_terms(terms.size());
  sum_block(terms.first(split), begin, left.data(), count);
  sum_block(terms.subspan(split), begin, right.data(), count);
  add2(left.data(), right.data(), out, count);
}

}  // namespace

void tree_sum(std::span<const float* const> terms, float* out, int64_t count) {
  for (int64_t begin = 0; begin < count; begin += kTile) {
    sum_block(terms, begin, out + begin, std::min(kTile, count - begin));
  }
}

}  // namespace shoal
