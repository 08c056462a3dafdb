// SPDX-License-Identifier: Apache-2.0
// The product kernels (gemm.h), written once over simd.h and compiled for each path by gemm_<path>.cc. After Goto and van de Geijn,
// "Anatomy of high-performance matrix multiplication" (2008), without their packing at run time: panels are packed when weights are loaded.
#pragma once

#include "backend/cpu/gemm_pack.h"
#include "backend/cpu/gemm_tiles.h"

namespace shoal::SHOAL_ISA {
namespace {

// [units][columns] pairs to [2 * units][columns] f32.
void unpack(const uint32_t* w, int64_t units, float* out) {
  for (int64_t unit = 0; unit < units; ++unit, w += kColumns, out += 2 * kColumns) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      store16(out + 16 * v, low_of_pairs(w + 16 * v));
      store16(out + kColumns + 16 * v, high_of_pairs(w + 16 * v));
    }
  }
}

SHOAL_INLINE F32x16 activate(F32x16 gate, F32x16 up, bool clamped_swish, float limit) {
  if (!clamped_swish) return silu16(gate) * up;
  const F32x16 g = min16(set1(limit), gate);
  const F32x16 u = max16(set1(-limit), min16(set1(limit), up));
  return g * sigmoid16(set1(1.702f) * g) * (u + set1(1.0f));
}

// Columns [c, c + 16) of one row's finished sums: bias and activation. `bias` is of the panel's first column, `n` the panel's outputs.
SHOAL_INLINE F32x16 finish(const GemmProduct& p, const float* sums, const float* bias, int64_t c, int64_t n) {
  const int64_t width = p.gated ? kColumns / 2 : kColumns;
  F32x16 x = load16(sums + c, width - c);
  if (bias) x = x + load16(bias + c, n - c);
  if (!p.gated) return x;
  F32x16 up = load16(sums + width + c, width - c);
  if (bias) up = up + load16(bias + p.w.columns + c, n - c);
  return activate(x, up, p.clamped_swish, p.limit);
}

// Finished sums [rows][kColumns] to the output.
void write_out(const GemmProduct& p, const GemmBlock& block, const float* sums) {
  const int64_t width = p.gated ? kColumns / 2 : kColumns;
  const int64_t first = block.panel * width;
  const int64_t n = p.w.columns - first < width ? p.w.columns - first : width;
  const float* bias = p.bias ? p.bias + first : nullptr;
  for (int64_t r = 0; r < block.rows; ++r, sums += kColumns) {
    const int64_t row = block.row + r;
    float* out = p.out + (p.out_index ? p.out_index[row] : row) * p.out_stride + first;
    for (int64_t c = 0; c < n; c += 16) store16(out + c, finish(p, sums, bias, c, n), n - c);
  }
}

void multiply(const GemmProduct& p, const GemmBlock& block) {
  const uint32_t* rows[kRowBlock];
  for (int64_t r = 0; r < block.rows; ++r) {
    const int64_t row = block.row + r;
    rows[r] = p.a + (p.a_index ? p.a_index[row] : row) * p.a_stride;
  }
  const uint32_t* panel = p.w.data + block.panel * p.w.panel_words;
  float* const unpacked = block.scratch + kGemmSlots * kSlotFloats;
  const bool one_tile = block.rows <= kTileRows;
  const bool unpacks = !kPairs && p.w.bf16 && block.rows > kUnpackTiles * kTileRows;
  const GemmStep* const steps = one_tile ? p.w.whole : p.w.blocked;
  const int32_t count = one_tile ? p.w.whole_steps : p.w.blocked_steps;
  for (int32_t s = 0; s < count; ++s) {
    const GemmStep& step = steps[s];
    const int64_t units = step.end - step.begin;
    Tile tile{.rows = rows,
              .row_offset = step.begin,
              .w = panel + int64_t{step.begin} * kColumns,
              .units = units,
              .sums = block.scratch + step.slot * kSlotFloats,
              .combines = step.combines,
              .resumes = step.resumes,
              .ahead = nullptr,
              .ahead_step = kColumns * 4,
              .lines = 0};
    tile.ahead = reinterpret_cast<const char*>(tile.w) + (one_tile ? kPrefetchBytes : units * kColumns * 4);
    if (!p.w.bf16) {
      run_tiles<FloatUnit>(tile, block.rows);
    } else if (unpacks) {
      unpack(tile.w, tile.units, unpacked);
      tile.w = reinterpret_cast<const uint32_t*>(unpacked);
      tile.units *= 2;
      tile.row_offset *= 2;
      tile.ahead_step /= 2;
      run_tiles<FloatUnit>(tile, block.rows);
    } else {
      tile.row_offset *= Bf16Unit::kRowWords;
      run_tiles<Bf16Unit>(tile, block.rows);
    }
  }
  write_out(p, block, block.scratch);
}

void convert_segment(const float* x, float scale, int64_t n, uint32_t* out) {
  const int64_t padded = (n + 1) / 2 * 2;
  for (int64_t i = 0; i < padded; i += 16) {
    const F32x16 values = load16(x + i, n - i) * set1(scale);
    if (kPairs) {
      store16_bf16(reinterpret_cast<uint16_t*>(out) + i, values, padded - i);
    } else {
      store16(reinterpret_cast<float*>(out) + i, values, padded - i);
    }
  }
}

void convert_row(const float* x, float scale, const GemmSegment* segments, int32_t count, uint32_t* out) {
  for (int32_t s = 0; s < count; ++s) {
    const GemmSegment& segment = segments[s];
    convert_segment(x + segment.begin, scale, segment.end - segment.begin,
                    out + segment.first_unit * Bf16Unit::kRowWords);
  }
}

void scale_row(const float* x, float scale, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 16) store16(out + i, load16(x + i, n - i) * set1(scale), n - i);
}

void add_scaled(const float* x, float weight, int64_t n, float* sum) {
  const F32x16 factor = set1(weight);
  for (int64_t i = 0; i < n; i += 16)
    store16(sum + i, fma16(factor, load16(x + i, n - i), load16(sum + i, n - i)), n - i);
}

constexpr GemmKernels make_kernels() {
  return {.panel_columns = kColumns,
          .row_tile = kTileRows,
          .row_block = kRowBlock,
          .block_units_f32 = kBlockUnitsF32,
          .block_units_bf16 = kBlockUnitsBf16,
          .scratch_floats = kGemmSlots * kSlotFloats + 2 * kBlockUnitsBf16 * kColumns,
          .words_per_unit_bf16 = Bf16Unit::kRowWords,
          .multiply = multiply,
          .convert_row = convert_row,
          .scale_row = scale_row,
          .add_scaled = add_scaled,
          .pack_f32 = pack_rows<Float32Words>,
          .pack_bf16 = pack_rows<Bf16Words>,
          .pack_f32_to_bf16 = pack_rows<Float32ToBf16Words>};
}

}  // namespace
}  // namespace shoal::SHOAL_ISA
