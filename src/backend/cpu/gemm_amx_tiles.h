// SPDX-License-Identifier: Apache-2.0
// Row tiles of products by matrix tiles: the steps of up to 16 rows of a strip, and what becomes of their sums. For gemm_amx.h only, which cuts
// blocks into them.
#pragma once

#include "backend/cpu/gemm_amx_rows.h"

namespace shoal::SHOAL_ISA {
namespace {

static_assert(kColumns == 4 * kTileSide);
constexpr int64_t kSumsStride = kColumns * 4;
// Tiles beside the sums. One for weights is enough, since the processor renames it.
constexpr int kActivations = 4, kWeights = 5, kHalfActivations = 6, kHalfWeights = 7;

SHOAL_INLINE int64_t tiles_of(int64_t rows) { return (rows + kTileSide - 1) / kTileSide; }

SHOAL_INLINE void configure_height(int64_t rows) {
  TileShapes shapes;
  for (int tile = 0; tile <= kActivations; ++tile) shapes.set_rows(tile, rows);
  shapes.set_rows(kHalfActivations, rows);
  shapes.set_words(kHalfActivations, kHalfStep);
  shapes.set_rows(kHalfWeights, kHalfStep);
  shapes.configure();
}

// A block's tiles have one height, so that their shapes need not change.
SHOAL_INLINE int64_t height_of(const GemmBlock& block) {
  const int64_t tiles = tiles_of(block.rows);
  return (block.rows + tiles - 1) / tiles;
}

// Up to 16 rows of a strip.
struct RowTile {
  const uint32_t* a;
  int64_t stride;  // bytes
  int64_t row;     // of the product
  int64_t
      rows;  // as many as the block's tiles are high, or one less: then the next tile's first row is computed too, for nothing
  float* sums;           // slot 0, [kTileSide][kColumns]
  bool fetches;          // the strip's weights, for itself and the tiles after it
  const uint32_t* next;  // what `a` is to the tile after it, to be fetched, or null
};

// How the sums of a piece begin: what their tiles hold is stored, if that is wanted; then they are zeros or the sums of `resumed`.
struct Beginning {
  float* stored;
  const float* resumed;
};

// The sums of a piece that is computed: in tiles until the next one begins, then in memory.
struct PieceSums {
  float* at = nullptr;  // [rows][kColumns]
  int64_t rows = 0;
  int combines = 0;
  int64_t out = -1;  // of the product's last piece: the row from which on they are written out
};

// What else is fetched meanwhile, so many lines with each step.
class Soon {
 public:
  SHOAL_INLINE Soon(const GemmBlock& block, int64_t units)
      : at_(block.soon),
        end_(block.soon + block.soon_bytes),
        lines_(block.soon_bytes / kLine / (tiles_of(block.rows) * units / kUnitStep + 1) + 1) {}
  SHOAL_INLINE void fetch() {
    if (at_ >= end_) return;
    for (int64_t line = 0; line < lines_; ++line) __builtin_prefetch(at_ + line * kLine, 0, 2);
    at_ += lines_ * kLine;
  }

 private:
  const char* at_;
  const char* end_;
  int64_t lines_;
};

template <int kColumn>
SHOAL_INLINE void begin_column(const Beginning& beginning) {
  if (beginning.stored) store_tile<kColumn>(beginning.stored + kTileSide * kColumn, kSumsStride);
  if (beginning.resumed) {
    load_tile<kColumn>(beginning.resumed + kTileSide * kColumn, kSumsStride);
  } else {
    zero_tile<kColumn>();
  }
}

SHOAL_INLINE void begin_sums(const Beginning& beginning) {
  begin_column<0>(beginning);
  begin_column<1>(beginning);
  begin_column<2>(beginning);
  begin_column<3>(beginning);
}

template <int kColumn, int kA, int kW>
SHOAL_INLINE void add_column(const uint32_t* w, const Beginning* beginning) {
  load_tile<kW>(w + kTileSide * kColumn, kWeightsStride);
  if (beginning) begin_column<kColumn>(*beginning);
  add_tile_product<kColumn, kA, kW>();
}

// A step of `kUnits`, a piece's first one if there is a beginning.
template <int kPlanes, int kUnits>
SHOAL_INLINE void add_step(const uint32_t* a, int64_t stride, const uint32_t* w, const Beginning* beginning) {
  constexpr int kA = kUnits == kUnitStep ? kActivations : kHalfActivations;
  constexpr int kW = kUnits == kUnitStep ? kWeights : kHalfWeights;
#pragma GCC unroll 2
  for (int plane = 0; plane < kPlanes; ++plane, beginning = nullptr) {
    load_tile<kA>(a + plane * kUnits, stride);
    add_column<0, kA, kW>(w, beginning);
    add_column<1, kA, kW>(w, beginning);
    add_column<2, kA, kW>(w, beginning);
    add_column<3, kA, kW>(w, beginning);
  }
}

// Runs a block's row tiles. To store sums and join them with those of earlier pieces takes as long as a piece's products, so both are done while
// the next piece is computed: each tile is stored just before it begins anew, and with each step some rows are joined.
template <int kPlanes>
class TileRun {
 public:
  SHOAL_INLINE TileRun(const GemmProduct& p, const GemmBlock& block)
      : p_(p), panel_(block.panel), soon_(block, p.w.panel_words / kColumns) {
    configure_height(height_of(block));
  }

  void run(const Strip& strip, const RowTile& tile) {
    if (strip.last) fetch_out(p_, panel_, tile.row, tile.rows);
    At at{.a = tile.a, .w = strip.w};
    for (int i = 0; i < strip.piece_count; ++i) {
      const Piece& piece = strip.pieces[i];
      float* sums = tile.sums + piece.slot * kSlotFloats;
      const Beginning beginning{.stored = held_.at, .resumed = piece.resumes ? sums : nullptr};
      joined_ = 0;
      join_each_ = piece.units > 0 ? (held_.rows * kUnitStep + piece.units - 1) / piece.units : 0;
      if (piece.units == 0) begin_sums(beginning);
      const Beginning* first = &beginning;
      int64_t units = piece.units;
      for (; units >= kUnitStep; units -= kUnitStep, first = nullptr) step<kUnitStep>(strip, tile, at, first);
      if (units > 0) step<kHalfStep>(strip, tile, at, first);
      join(held_.rows);
      const bool last = strip.last && i + 1 == strip.piece_count;
      held_ = {.at = sums, .rows = tile.rows, .combines = piece.combines, .out = last ? tile.row : -1};
    }
  }

  // Afterwards all sums are written out.
  void finish() {
    store_sums(held_.at, kTileSide, kSumsStride);
    release_tiles();
    joined_ = 0;
    join(held_.rows);
  }

 private:
  struct At {
    const uint32_t* a;
    const uint32_t* w;
  };

  template <int kUnits>
  SHOAL_INLINE void step(const Strip& strip, const RowTile& tile, At& at, const Beginning* beginning) {
    if (tile.fetches) {
      fetch_weights(strip, at.w, kUnits);
    } else {
      soon_.fetch();
    }
    if (tile.next) fetch_rows(tile.next + (at.a - tile.a), tile);
    add_step<kPlanes, kUnits>(at.a, tile.stride, at.w, beginning);
    at.a += kPlanes * kUnits;
    at.w += kColumns * kUnits;
    join(joined_ + join_each_);
  }

  // A step of the next tile's rows.
  SHOAL_INLINE void fetch_rows(const uint32_t* a, const RowTile& tile) {
    const auto* row = reinterpret_cast<const char*>(a);
    for (int64_t r = 0; r < tile.rows; ++r, row += tile.stride) {
#pragma GCC unroll 2
      for (int plane = 0; plane < kPlanes; ++plane) __builtin_prefetch(row + plane * kLine, 0, 3);
    }
  }

  // The held piece's rows up to `end`, that are not yet.
  SHOAL_INLINE void join(int64_t end) {
    if (end > held_.rows) end = held_.rows;
    if (held_.combines == 0 && held_.out < 0) return;
    for (int64_t r = joined_; r < end; ++r) join_row(held_.at + r * kColumns, held_.combines);
    if (held_.out >= 0) {
      const float* sums = held_.at - held_.combines * kSlotFloats + joined_ * kColumns;
      write_rows(p_, panel_, held_.out + joined_, end - joined_, sums);
    }
    joined_ = end;
  }

  const GemmProduct& p_;
  int64_t panel_;
  Soon soon_;
  PieceSums held_;
  int64_t joined_ = 0;     // of its rows
  int64_t join_each_ = 0;  // with each step
};

}  // namespace
}  // namespace shoal::SHOAL_ISA
