// SPDX-License-Identifier: Apache-2.0
// The fixed order in which float32 terms of ranks are added (docs/architecture.md section 4, rules 1 and 2): n terms split into the
// first bit_ceil(n) / 2 and the rest, recursively. So 2, 4 or 8 ranks that each hold a subtree of eight terms add to the same bits.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

namespace shoal {

// How many of n terms (n >= 2) belong to the left subtree.
constexpr size_t left_terms(size_t n) { return std::bit_ceil(n) / 2; }

// out[i] = tree sum over t of terms[t][i], i < count. `out` may be one of the terms, exactly.
void tree_sum(std::span<const float* const> terms, float* out, int64_t count);

}  // namespace shoal
