// SPDX-License-Identifier: Apache-2.0
// Matrix tiles (Intel's AMX): eight registers of up to 16 rows of 64 bytes. In assembly, since g++'s intrinsics do not say that they read
// memory. A thread's tiles are its own; those who use them give them back (release_tiles), or each switch of threads saves them.
// For files named *_amx.cc only.
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1 chapter 18, volume 2 TDPBF16PS.
#pragma once

#include <cstdint>

#include "backend/cpu/simd.h"

namespace shoal::SHOAL_ISA {
namespace {

constexpr int64_t kTileSide = 16;  // rows of a tile, and 32-bit words of a row
constexpr int64_t kTileFloats = kTileSide * kTileSide;

// Rows of each tile and 32-bit words of a row, at first sixteen.
class TileShapes {
 public:
  SHOAL_INLINE TileShapes() {
    for (int tile = 0; tile < 8; ++tile) {
      bytes_[tile] = kLine;
      rows_[tile] = kTileSide;
    }
  }
  SHOAL_INLINE void set_rows(int tile, int64_t rows) { rows_[tile] = static_cast<uint8_t>(rows); }
  SHOAL_INLINE void set_words(int tile, int64_t words) { bytes_[tile] = static_cast<uint16_t>(4 * words); }
  // Tiles hold zeros afterwards.
  SHOAL_INLINE void configure() const { __asm__ volatile("ldtilecfg %0" ::"m"(*this)); }

 private:
  uint8_t palette_ = 1;
  uint8_t start_row_ = 0;
  uint8_t reserved_[14] = {};
  uint16_t bytes_[16] = {};
  uint8_t rows_[16] = {};
};
static_assert(sizeof(TileShapes) == 64);

SHOAL_INLINE void release_tiles() { __asm__ volatile("tilerelease"); }

template <int kTile>
SHOAL_INLINE void zero_tile() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
// Rows `stride` bytes apart.
template <int kTile>
SHOAL_INLINE void load_tile(const void* from, int64_t stride) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
SHOAL_INLINE void store_tile(void* to, int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
}
// sums[r][c] += sum over pairs k of a[r][k] * b[k][c], a and b of bf16 pairs: the products of the low ones are one chain of fused multiply-adds
// from 0, those of the high ones another; the sum of both is added. Subnormals are 0, whatever the thread's mode.
template <int kSums, int kA, int kB>
SHOAL_INLINE void add_tile_product() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}

// Tiles 0 to 3 are sums everywhere; four side by side lie `apart` floats from one another, their rows `stride` bytes.
SHOAL_INLINE void zero_sums() {
  zero_tile<0>();
  zero_tile<1>();
  zero_tile<2>();
  zero_tile<3>();
}
SHOAL_INLINE void load_sums(const float* from, int64_t apart, int64_t stride) {
  load_tile<0>(from, stride);
  load_tile<1>(from + apart, stride);
  load_tile<2>(from + 2 * apart, stride);
  load_tile<3>(from + 3 * apart, stride);
}
SHOAL_INLINE void store_sums(float* to, int64_t apart, int64_t stride) {
  store_tile<0>(to, stride);
  store_tile<1>(to + apart, stride);
  store_tile<2>(to + 2 * apart, stride);
  store_tile<3>(to + 3 * apart, stride);
}

// For the same bits by vectors, where rows are few and tiles would spend their time on the way through memory: the low and high numbers of sixteen
// pairs.
SHOAL_INLINE F32x16 low_of(__m512i words) { return {_mm512_castsi512_ps(_mm512_slli_epi32(words, 16))}; }
SHOAL_INLINE F32x16 high_of(__m512i words) {
  return {_mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000))))};
}

// Two vectors as they lie in memory from those of their even and odd elements.
SHOAL_INLINE void join_columns(F32x16& even, F32x16& odd) {
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  const __m512 low = _mm512_permutex2var_ps(even.v, first, odd.v);
  odd.v = _mm512_permutex2var_ps(even.v, second, odd.v);
  even.v = low;
}

// Subnormals are 0, as to the tile instruction, while this lives. Floating-point operations stay between loads after its beginning and stores
// before its end, which the compiler moves across neither.
class FlushSubnormals {
 public:
  SHOAL_INLINE FlushSubnormals() {
    __asm__ volatile("stmxcsr %0" : "=m"(before_)::"memory");
    set(before_ | 0x8040);  // flush to zero, denormals are zeros
  }
  SHOAL_INLINE ~FlushSubnormals() { set(before_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  static SHOAL_INLINE void set(uint32_t mode) { __asm__ volatile("ldmxcsr %0" ::"m"(mode) : "memory"); }
  uint32_t before_;
};

}  // namespace
}  // namespace shoal::SHOAL_ISA
