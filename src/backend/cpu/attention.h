// SPDX-License-Identifier: Apache-2.0
// Attention of a tile of query rows over one KV head of one sequence: online softmax (Milakov and Gimelshein 2018; blocks
// as in FlashAttention, Dao 2022) over blocks of 64 absolute positions, merged in order within segments of 512, segments
// merged in order. What happens to a row depends on that row and the cache alone, whatever else is in the tile:
//   score  = scale * dot(q, k): sixteen lanes over k_dim, one chain each, lanes added as a tree (simd.h)
//   block  : weights exp(score - maximum so far); their sum over four vectors of 16 positions; values in position order
//   masked positions take no part, and a block or segment without visible positions is skipped.
// K and V are f32, or bf16 or E4M3 widened to f32: exact, so that products and sums are f32 in all cases. The paths avx512bf16 and
// amxbf16 multiply a bf16 cache by pairs instead (attention_pairs.h, attention_amx.h), a score as one chain over pairs of columns.
// Not here: which tiles there are and who computes them (cpu_backend_attention.cc).
#pragma once

#include <cstdint>

namespace shoal {

enum class Isa : uint8_t;

constexpr int64_t kAttentionBlock = 64;
constexpr int64_t kAttentionSegment = 512;
constexpr int64_t kAttentionTileRows = 64;

// One query of one head; it sees positions [first, last], none if last is first - 1.
struct QueryRow {
  const float* q;  // [k_dim]
  int64_t first;
  int64_t last;
};

enum class KvElement : uint8_t { kF32, kBF16, kF8E4M3 };

// One KV head of one sequence. Position p is row p % tokens_per_block of page pages[p / tokens_per_block].
struct KvSource {
  const void* k;  // this head's first element in page 0
  const void* v;  // == k: values are the first v_dim columns of k
  const int32_t* pages;
  int64_t tokens_per_block;
  int64_t k_page_stride;  // elements
  int64_t v_page_stride;
  int64_t k_dim;
  int64_t v_dim;
  int64_t v_row_stride;  // k_dim where v == k
  KvElement element;
};

// Unfinished rows: weights so far are relative to `maximum`; minus infinity: nothing seen yet.
struct AttentionState {
  float* maximum;  // [rows]
  float* sum;      // [rows]
  float* values;   // [rows, v_dim]
};

// Positions [first, end) of a KV head, at most kAttentionBlock.
struct KvStretch {
  const KvSource* source;
  int64_t first;
  int64_t end;
};

// Rows are sorted: `first` and `last` never fall from one to the next.
struct AttentionTile {
  const QueryRow* rows;
  int64_t count;  // at most kAttentionTileRows
  const KvSource* source;
  KvStretch after;  // what will be read after the last block of these rows and may be fetched meanwhile
  float scale;      // > 0
  float* scratch;   // attention_scratch_floats(), of this thread
};

struct AttentionKernels {
  // Positions [begin, end) of one segment; begins a new state.
  void (*attend)(const AttentionTile& tile, int64_t begin, int64_t end, const AttentionState& state);
  // total += part, row by row; parts must come in order of position.
  void (*merge)(const AttentionState& total, const AttentionState& part, int64_t rows, int64_t v_dim);
  // out [v_dim] of one row; exp(*sink) joins the denominator unless sink is null.
  void (*finish)(const AttentionState& state, int64_t row, int64_t v_dim, const float* sink, float* out);
};

constexpr int64_t round_up_16(int64_t n) { return (n + 15) / 16 * 16; }
constexpr int64_t round_up_32(int64_t n) { return (n + 31) / 32 * 32; }

// Scores of a tile, and a block of K and of V widened to f32 (or, smaller, what attention_pairs.h and attention_amx.h make of queries, keys
// and values).
constexpr int64_t attention_scratch_floats(int64_t k_dim, int64_t v_dim) {
  return kAttentionBlock * (kAttentionTileRows + round_up_32(k_dim) + round_up_32(v_dim));
}

extern const AttentionKernels kAttentionKernelsPlain, kAttentionKernelsAvx2, kAttentionKernelsAvx512,
    kAttentionKernelsAvx512Bf16, kAttentionKernelsAmx;
const AttentionKernels& attention_kernels(Isa isa);

}  // namespace shoal
