// SPDX-License-Identifier: Apache-2.0
// Products of rows with packed matrices: the plain-data interface between the backend and the kernels of each instruction-set path.
// A packed matrix is panels of `columns` outputs each. A panel is a list of units, each holding one k of every column (f32) or two
// consecutive ones (bf16, (low, high) in 32 bits): [panel][unit][column]. A row of activations lies in the same order of k.
// Bits: each output is one chain of fused multiply-adds in ascending k per step; steps say how chains are joined.
// Not here: allocation and filling of matrices (matrix_packed.h), threads (gemm_run.h). No std:: types: files of a path include this.
#pragma once

#include <cstdint>

namespace shoal {

// A stretch of the sum over k: a chain from 0, then added to the `combines` slots below `slot`, nearest first, and kept in slot
// `slot - combines`. After the last step slot 0 has the product. Kernels cut steps further and resume the chain.
struct GemmStep {
  int32_t begin = 0;  // units
  int32_t end = 0;
  int16_t slot = 0;
  int16_t combines = 0;
};

// A contiguous range of source k and the unit where it starts; padded with zeros to whole units.
struct GemmSegment {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t first_unit = 0;
};

struct PackedPanels {
  const uint32_t* data = nullptr;
  int64_t panel_words = 0;  // 32-bit words of one panel
  int64_t panels = 0;
  int64_t columns = 0;  // outputs; for gated products pairs of (gate, up)
  bool bf16 = true;
  const GemmStep* steps = nullptr;  // contiguous, from unit 0 on
  int32_t step_count = 0;
};

// out[r][c] = sum over k of a[r][k] * w[c][k] (+ bias[c]); gated: act of the two sums of (gate, up) pair c, with bias[c] and
// bias[columns + c].
struct GemmProduct {
  PackedPanels w;
  const uint32_t* a = nullptr;       // activation rows in the form of convert_row
  int64_t a_stride = 0;              // 32-bit words
  const int32_t* a_index = nullptr;  // row r reads activation a_index[r]; null: r
  int64_t rows = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
  const int32_t* out_index = nullptr;  // row r is written to out_index[r]; null: r
  const float* bias = nullptr;
  bool gated = false;
  bool clamped_swish = false;  // the act of GateKind::kClampedSwish, else of kSilu
  float limit = 0.0f;
};

// Rows [row, row + rows) of one panel, at most row_block of them.
struct GemmBlock {
  int64_t panel = 0;
  int64_t row = 0;
  int64_t rows = 0;
  const void* next = nullptr;  // weights that will be read afterwards and may be fetched meanwhile, or null
  bool far = false;            // few rows: fetch their weights from further ahead too (fetches_far)
  // Of a panel's later blocks: their share of the next panel, for paths whose blocks take less time than their weights take to come.
  const char* soon = nullptr;
  int64_t soon_bytes = 0;
  float* scratch = nullptr;  // scratch_floats
};

// Rows of a weight to be put into consecutive columns of one panel: k elements of each, the first at unit 0 of `target`.
struct PackRows {
  const void* rows = nullptr;
  int64_t stride = 0;  // bytes from row to row
  int64_t count = 0;
  int64_t k = 0;
  uint32_t* target = nullptr;
  int64_t columns = 0;  // of a panel
};

constexpr int64_t kPackRows = 16;  // rows that a packing kernel turns at once: the most that are best given to one call
constexpr int kGemmSlots = 5;      // a tree of eight segments needs four, one more while it grows

struct GemmKernels {
  int panel_columns;
  int row_tile;             // rows of the register tile
  int row_block;            // most rows of one GemmBlock
  int scratch_floats;       // per thread
  int words_per_unit_bf16;  // of an activation row: 2 where products are f32 or of two bf16 pairs, 1 where they are of one
  int unit_multiple_bf16;   // segments of bf16 matrices are padded to a multiple of so many units
  int flops_per_byte_bf16;  // with bf16 matrices, take about as long as a byte read from memory
  void (*multiply)(const GemmProduct& product, const GemmBlock& block);
  // One activation row for bf16 matrices: x[begin, end) of each segment * scale, zero-padded; as f32, or rounded to bf16 (or two of them)
  // where pairs are multiplied.
  void (*convert_row)(const float* x, float scale, const GemmSegment* segments, int32_t count, uint32_t* out);
  void (*scale_row)(const float* x, float scale, int64_t n, float* out);  // out[i] = scale * x[i]
  // sum[i] = fma(weight, x[i], sum[i]).
  void (*add_scaled)(const float* x, float weight, int64_t n, float* sum);
  void (*pack_f32)(const PackRows& rows);          // f32 to an f32 panel
  void (*pack_bf16)(const PackRows& rows);         // bf16 to a bf16 panel
  void (*pack_f32_to_bf16)(const PackRows& rows);  // rounded to nearest even
};

// One per path, in gemm_<path>.cc.
extern const GemmKernels kGemmPlain;
extern const GemmKernels kGemmAvx2;
extern const GemmKernels kGemmAvx512;
extern const GemmKernels kGemmAvx512Bf16;
extern const GemmKernels kGemmAmx;      // activations as the sum of two bf16
extern const GemmKernels kGemmAmxBf16;  // as one

}  // namespace shoal
