// SPDX-License-Identifier: Apache-2.0
// The product kernels (gemm.h), written once over simd.h and compiled for each path by gemm_<path>.cc. After Goto and van de Geijn,
// "Anatomy of high-performance matrix multiplication" (2008), without their packing at run time: panels are packed when weights are loaded.
#pragma once

#include "backend/cpu/gemm_pack.h"
#include "backend/cpu/gemm_tiles.h"

namespace shoal::SHOAL_ISA {
namespace {

// [units][columns] pairs to [2 * units][columns] f32.
void widen(const uint32_t* w, int64_t units, float* out) {
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

// Finished sums [rows][kColumns] of one panel to the output.
void write_out(const GemmProduct& p, const GemmBlock& block, int64_t panel, const float* sums) {
  const int64_t width = p.gated ? kColumns / 2 : kColumns;
  const int64_t first = panel * width;
  const int64_t n = p.w.columns - first < width ? p.w.columns - first : width;
  const float* bias = p.bias ? p.bias + first : nullptr;
  for (int64_t r = 0; r < block.rows; ++r, sums += kColumns) {
    const int64_t row = block.row + r;
    float* out = p.out + (p.out_index ? p.out_index[row] : row) * p.out_stride + first;
    for (int64_t c = 0; c < n; c += 16) store16(out + c, finish(p, sums, bias, c, n), n - c);
  }
}

// Units [begin, end) of all panels of a block.
struct Strip {
  int64_t begin;
  int64_t end;
  int slot;
  int combines;
  bool resumes;
};

// What to fetch during a strip: the next one, in as many streams as a unit has lines, from all panels of a group side by side. Returns how
// far the first panel's part of each stream goes.
int64_t plan_fetching(const GemmProduct& p, const GemmBlock& block, const Strip& strip, Tile& tile) {
  const int64_t panel_bytes = p.w.panel_words * 4;
  const int64_t units = strip.end - strip.begin;
  const bool last = strip.end * kColumns == p.w.panel_words;
  tile.ahead = reinterpret_cast<const char*>(p.w.data) + block.panel * panel_bytes +
               (last ? block.panels * panel_bytes : strip.end * kColumns * 4);
  tile.ahead_step = kLine;
  if (kUnitLines < block.panels) return panel_bytes;
  for (int64_t l = 0; l < kUnitLines; ++l)
    tile.line[l] = l % block.panels * panel_bytes + l / block.panels * (block.panels * units * kLine);
  return units * kLine;
}

// A strip of bf16 weights as f32, then as FloatUnits.
void run_widened(Tile tile, int64_t rows, float* widened) {
  widen(tile.w, tile.units, widened);
  tile.w = reinterpret_cast<const uint32_t*>(widened);
  tile.units *= 2;
  tile.ahead_step /= 2;
  run_tiles<FloatUnit>(tile, rows, kTileRows);
}

void multiply_strip(const GemmProduct& p, const GemmBlock& block, const Strip& strip, const uint32_t* const* rows) {
  Tile tile{.rows = rows,
            .row_offset = strip.begin * (p.w.bf16 ? Bf16Unit::kRowWords : FloatUnit::kRowWords),
            .w = p.w.data + block.panel * p.w.panel_words + strip.begin * kColumns,
            .units = strip.end - strip.begin,
            .sums = block.scratch + strip.slot * kSlotFloats,
            .combines = strip.combines,
            .resumes = strip.resumes,
            .ahead = nullptr,
            .ahead_step = 0,
            .line = {},
            .first_line = 0,
            .last_line = 0};
  const int64_t ahead_of_panel = plan_fetching(p, block, strip, tile);
  for (int64_t panel = 0; panel < block.panels; ++panel) {
    if (!p.w.bf16) {
      run_tiles<FloatUnit>(tile, block.rows, kTileRows);
    } else if (!kPairs && block.rows > kDirectRows) {
      run_widened(tile, block.rows, block.scratch + kGemmSlots * kSlotFloats);
    } else {
      run_tiles<Bf16Unit>(tile, block.rows, kTallRows);
    }
    tile.w += p.w.panel_words;
    tile.sums += block.rows * kColumns;
    tile.ahead += ahead_of_panel;
  }
}

void multiply(const GemmProduct& p, const GemmBlock& block) {
  const uint32_t* rows[kRowBlock];
  for (int64_t r = 0; r < block.rows; ++r) {
    const int64_t row = block.row + r;
    rows[r] = p.a + (p.a_index ? p.a_index[row] : row) * p.a_stride;
  }
  const int64_t most = block.rows <= kTileRows ? kOneTileUnits : p.w.bf16 ? kUnitsBf16 : kUnitsF32;
  for (int32_t s = 0; s < p.w.step_count; ++s) {
    const GemmStep& step = p.w.steps[s];
    Strip strip{.begin = step.begin, .end = step.begin, .slot = step.slot, .combines = 0, .resumes = false};
    do {
      strip.end = step.end - strip.begin > most ? strip.begin + most : step.end;
      if (strip.end == step.end) strip.combines = step.combines;
      multiply_strip(p, block, strip, rows);
      strip.begin = strip.end;
      strip.resumes = true;
    } while (strip.begin < step.end);
  }
  for (int64_t panel = 0; panel < block.panels; ++panel)
    write_out(p, block, block.panel + panel, block.scratch + panel * block.rows * kColumns);
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
          .group_rows = kGroupRows,
          .scratch_floats = kGemmSlots * kSlotFloats + (kPairs ? 0 : 2 * kUnitsBf16 * kColumns),
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
