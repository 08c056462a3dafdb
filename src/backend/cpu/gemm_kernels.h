// SPDX-License-Identifier: Apache-2.0
// The product kernels (gemm.h), written once over simd.h and compiled for each path by gemm_<path>.cc. After Goto and van de Geijn,
// "Anatomy of high-performance matrix multiplication" (2008), without their packing at run time: panels are packed when weights are loaded.
#pragma once

#include "backend/cpu/gemm_pack.h"
#include "backend/cpu/gemm_tiles.h"

namespace shoal::SHOAL_ISA {
namespace {

#if defined(SHOAL_ISA_AMX)
constexpr int kUnitStep = 16;  // strips are cut at multiples of so many units
#else
constexpr int kUnitStep = 1;
#endif

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

float* out_row(const GemmProduct& p, int64_t row) {
  return p.out + (p.out_index ? p.out_index[row] : row) * p.out_stride;
}

// Finished sums [rows][kColumns] of one panel to the output's rows from `row` on.
void write_rows(const GemmProduct& p, int64_t panel, int64_t row, int64_t rows, const float* sums) {
  const int64_t width = p.gated ? kColumns / 2 : kColumns;
  const int64_t first = panel * width;
  const int64_t n = p.w.columns - first < width ? p.w.columns - first : width;
  const float* bias = p.bias ? p.bias + first : nullptr;
  for (const int64_t end = row + rows; row < end; ++row, sums += kColumns) {
    float* out = out_row(p, row) + first;
    for (int64_t c = 0; c < n; c += 16) store16(out + c, finish(p, sums, bias, c, n), n - c);
  }
}

// The place in a product's steps up to which strips have been cut.
struct StepCursor {
  int32_t step = 0;
  int64_t unit = 0;
};

// The next strip of at most `most` units: a part of one step, or several whole steps.
void cut_strip(const PackedPanels& w, int64_t most, StepCursor& cursor, Strip& strip) {
  strip.units = 0;
  strip.piece_count = 0;
  for (; cursor.step < w.step_count && strip.piece_count < kMostPieces; ++cursor.step) {
    const GemmStep& step = w.steps[cursor.step];
    const int64_t left = step.end - cursor.unit;
    if (strip.piece_count > 0 && left > most - strip.units) return;
    const int64_t parts = (left + most - 1) / most;
    const int64_t even = ((left + parts - 1) / parts + kUnitStep - 1) / kUnitStep * kUnitStep;
    const int64_t units = parts > 1 ? even : left;
    const bool ends = units == left;
    strip.pieces[strip.piece_count++] = {
        .units = units, .slot = step.slot, .combines = ends ? step.combines : 0, .resumes = cursor.unit > step.begin};
    strip.units += units;
    cursor.unit += units;
    if (!ends) return;
  }
}

bool widens(const GemmBlock& block) { return kWidens && block.rows > kDirectRows; }

void run_strip(const GemmProduct& p, const GemmBlock& block, const Strip& strip) {
  if (!p.w.bf16) {
    run_tiles<FloatUnit>(strip, block.rows, kFloatRows);
  } else if (widens(block)) {
    run_tiles<WidenedUnit, WideningUnit>(strip, block.rows, kFloatRows);
  } else {
    run_tiles<Bf16Unit>(strip, block.rows, kPairs && block.rows > kTallRows ? kTileRows : kTallRows);
  }
}

// The lines that rows will be written to: to own them takes as long as to read them.
void fetch_out(const GemmProduct& p, int64_t panel, int64_t row, int64_t rows) {
  const int64_t width = p.gated ? kColumns / 2 : kColumns;
  for (const int64_t end = row + rows; row < end; ++row) {
    const char* line = reinterpret_cast<const char*>(out_row(p, row) + panel * width);
    for (int64_t i = 0; i < width * 4; i += kLine) __builtin_prefetch(line + i, 1);
  }
}

// Strips of a block are taken in order: first_strip, then for each cut_strip, end_of_strip, its products, next_strip.
SHOAL_INLINE Strip first_strip(const GemmProduct& p, const GemmBlock& block) {
  Strip strip;
  strip.rows = nullptr;
  strip.row_offset = 0;
  strip.w = p.w.data + block.panel * p.w.panel_words;
  strip.sums = block.scratch;
  strip.widened = block.scratch + kGemmSlots * kSlotFloats;
  strip.far = block.far;
  return strip;
}
// What to fetch while the strip is computed that ends at the cursor.
SHOAL_INLINE void end_of_strip(const GemmProduct& p, const GemmBlock& block, const StepCursor& cursor, Strip& strip) {
  const bool last = cursor.step == p.w.step_count;
  strip.ahead = static_cast<const char*>(last ? block.next : strip.w + strip.units * kColumns);
  strip.last = last;
}
SHOAL_INLINE void next_strip(Strip& strip, int64_t row_words) {
  strip.row_offset += strip.units * row_words;
  strip.w += strip.units * kColumns;
}

void multiply(const GemmProduct& p, const GemmBlock& block) {
  const uint32_t* rows[kRowBlock];
  for (int64_t r = 0; r < block.rows; ++r) {
    const int64_t row = block.row + r;
    rows[r] = p.a + (p.a_index ? p.a_index[row] : row) * p.a_stride;
  }
  Strip strip = first_strip(p, block);
  strip.rows = rows;
  const int64_t most = !p.w.bf16 ? kUnitsF32 : widens(block) ? kUnitsWidened : kUnitsBf16;
  StepCursor cursor;
  while (cursor.step < p.w.step_count) {
    cut_strip(p.w, most, cursor, strip);
    end_of_strip(p, block, cursor, strip);
    if (strip.last) fetch_out(p, block.panel, block.row, block.rows);
    run_strip(p, block, strip);
    next_strip(strip, p.w.bf16 ? Bf16Unit::kRowWords : FloatUnit::kRowWords);
  }
  write_rows(p, block.panel, block.row, block.rows, block.scratch);
}

void convert_segment(const float* x, float scale, int64_t n, uint32_t* out) {
  const F32x16 factor = set1(scale);
#if defined(SHOAL_ISA_AVX512BF16)
  for (int64_t i = 0; i < n; i += 32, out += 16) {
    const F32x16 words = round_pairs(load16(x + i, n - i) * factor, load16(x + i + 16, n - i - 16) * factor);
    store16(reinterpret_cast<float*>(out), words, (n - i + 1) / 2);
  }
#else
  const int64_t padded = (n + 1) / 2 * 2;
  for (int64_t i = 0; i < padded; i += 16)
    store16(reinterpret_cast<float*>(out) + i, load16(x + i, n - i) * factor, padded - i);
#endif
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
          .row_tile = kFloatRows,
          .row_block = kRowBlock,
          .scratch_floats = kGemmSlots * kSlotFloats + (kWidens ? 2 * kUnitsWidened * kColumns : 0),
          .words_per_unit_bf16 = Bf16Unit::kRowWords,
          .unit_multiple_bf16 = 1,
          .flops_per_byte_bf16 = 8,
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
