// SPDX-License-Identifier: Apache-2.0
#include "machine.h"

#include <immintrin.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "backend/cpu/allocator.h"
#include "backend/cpu/isa.h"
#include "engine/machine.h"
#include "timing.h"

namespace shoal::bench {
namespace {

constexpr int64_t kDotRounds = 100'000;
constexpr int kChains = 12;  // more than latency * units of any core
constexpr size_t kBytesPerThread = size_t{256} << 20;
constexpr size_t kWindow = size_t{32} << 20;  // read by one sample, a thread
constexpr int64_t kPieces = 8;                // of a window; a thread that was held up leaves some to the others
constexpr size_t kPiece = kWindow / kPieces;
constexpr size_t kFar = 12288;
constexpr ReadPattern kReadPatterns[] = {{1, 1024, false}, {1, 4096, false}, {2, 4096, false}, {4, 4096, false},
                                         {1, 4096, true},  {2, 4096, true},  {4, 4096, true}};
constexpr int kPatternRounds = 3;

// Rounds of kChains independent sums; written out, so that no compiler keeps them in memory.
#define SHOAL_CHAIN(op, reg, n) op " %%" reg "14, %%" reg "15, %%" reg #n "\n\t"
#define SHOAL_DOT_LOOP(op, reg)                                                                                        \
  int64_t rounds = kDotRounds;                                                                                         \
  __asm__ volatile("vzeroall\n1:\n\t" SHOAL_CHAIN(op, reg, 0) SHOAL_CHAIN(op, reg, 1) SHOAL_CHAIN(op, reg, 2)          \
                       SHOAL_CHAIN(op, reg, 3) SHOAL_CHAIN(op, reg, 4) SHOAL_CHAIN(op, reg, 5) SHOAL_CHAIN(op, reg, 6) \
                           SHOAL_CHAIN(op, reg, 7) SHOAL_CHAIN(op, reg, 8) SHOAL_CHAIN(op, reg, 9)                     \
                               SHOAL_CHAIN(op, reg, 10) SHOAL_CHAIN(op, reg, 11) "dec %0\n\tjnz 1b\n\tvzeroupper"      \
                   : "+r"(rounds)                                                                                      \
                   :                                                                                                   \
                   : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
                     "xmm12", "xmm13", "xmm14", "xmm15", "cc")

void dot_avx512() { SHOAL_DOT_LOOP("vfmadd231ps", "zmm"); }
void dot_avx512bf16() { SHOAL_DOT_LOOP("vdpbf16ps", "zmm"); }
void dot_avx2() { SHOAL_DOT_LOOP("vfmadd231ps", "ymm"); }

// Products of whole matrix tiles, by four independent sums.
constexpr int kTileFlops = 2 * 16 * 16 * 32;
void dot_amx() {
  constexpr uint8_t kRows = 16, kRowBytes = 64;
  alignas(64) uint8_t shapes[64] = {1};  // palette
  for (int tile = 0; tile < 8; ++tile) {
    shapes[16 + 2 * tile] = kRowBytes;
    shapes[48 + tile] = kRows;
  }
  int64_t rounds = kDotRounds * kChains / 4;
  __asm__ volatile(
      "ldtilecfg %1\n1:\n\ttdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"
      "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3\n\tdec %0\n\tjnz 1b\n\ttilerelease"
      : "+r"(rounds)
      : "m"(shapes)
      : "cc");
}

std::atomic<int64_t> sink{0};

// Some processors fetch one stream fastest, others several; some from near, others from further away, or into both caches.
__attribute__((target("avx2"))) void read_streams(const std::byte* data, size_t bytes, const ReadPattern& pattern) {
  const size_t stream_bytes = bytes / static_cast<size_t>(pattern.streams);
  __m256i sums[4] = {};
  for (size_t i = 0; i < stream_bytes; i += 256) {
    for (const std::byte* p = data + i; p < data + bytes; p += stream_bytes) {
      for (size_t line = 0; pattern.far && line < 256; line += 64)
        _mm_prefetch(reinterpret_cast<const char*>(p + kFar + line), _MM_HINT_T1);
      for (size_t line = 0; line < 256; line += 64)
        _mm_prefetch(reinterpret_cast<const char*>(p + pattern.ahead + line), _MM_HINT_T0);
      for (size_t v = 0; v < 8; ++v)
        sums[v % 4] = _mm256_xor_si256(sums[v % 4], _mm256_load_si256(reinterpret_cast<const __m256i*>(p + 32 * v)));
    }
  }
  const __m256i all = _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  sink += _mm256_extract_epi64(all, 0) ^ _mm256_extract_epi64(all, 1);
}

// Seconds until all calls of fn(i), i in [0, n), are done; the pool's threads are awake when the clock starts.
template <typename Function>
double seconds_of(ThreadPool& pool, int64_t n, const Function& fn) {
  pool.parallel_for(pool.threads(), 1, [](int64_t, int64_t) {});
  const double start = seconds_now();
  pool.parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) fn(i);
  });
  return seconds_now() - start;
}

}  // namespace

std::string isa_under_test() {
  const char* name = std::getenv("SHOAL_BENCH_ISA");
  return name ? name : "";
}

std::vector<int> cores_for(int threads) { return pinned_cores(read_machine(), 1, threads).front(); }

StayOn::StayOn(const std::vector<int>& cores) {
  pthread_getaffinity_np(pthread_self(), sizeof before_, &before_);
  if (cores.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cores.front(), &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

StayOn::~StayOn() { pthread_setaffinity_np(pthread_self(), sizeof before_, &before_); }

PeakMeter::PeakMeter(int threads)
    : cores_(cores_for(threads)),
      pool_(threads, cores_),
      threads_(threads),
      memory_(Arena().allocate(static_cast<size_t>(threads) * kBytesPerThread + kFar)),
      windows_(kBytesPerThread / kWindow) {
  const StayOn stay(cores_);
  std::memset(memory_.get(), 1, static_cast<size_t>(threads) * kBytesPerThread + kFar);
  double best = 0;
  ReadPattern chosen;
  for (int i = 0; i < kPatternRounds; ++i) {
    for (const ReadPattern& pattern : kReadPatterns) {
      pattern_ = pattern;
      const double rate = read_gb_s();
      if (rate <= best) continue;
      best = rate;
      chosen = pattern;
    }
  }
  pattern_ = chosen;
  last_ = best_of(kPatternRounds);
}

std::byte* PeakMeter::next_window() {
  std::byte* window = memory_.get() + next_ * kWindow * static_cast<size_t>(threads_);
  next_ = (next_ + 1) % windows_;
  return window;
}

double PeakMeter::read_gb_s() {
  const std::byte* window = next_window();
  const double seconds = seconds_of(pool_, threads_ * kPieces, [&](int64_t i) {
    read_streams(window + static_cast<size_t>(i) * kPiece, kPiece, pattern_);
  });
  return 1e-9 * static_cast<double>(kPiece) * static_cast<double>(threads_ * kPieces) / seconds;
}

double PeakMeter::gflop_s(void (*dot)(), int flops) {
  const double seconds = seconds_of(pool_, threads_ * 2, [&](int64_t) { dot(); });
  return 1e-9 * static_cast<double>(kDotRounds * kChains * flops) * static_cast<double>(threads_ * 2) / seconds;
}

Peaks PeakMeter::sample() {
  const StayOn stay(cores_);
  Peaks peaks;
  peaks.read_gb_s = read_gb_s();
  const Isa isa = isa_from_name(isa_under_test());
  const bool tiles = isa == Isa::kAmx || isa == Isa::kAmxBf16;
  const bool wide = tiles || isa == Isa::kAvx512 || isa == Isa::kAvx512Bf16;
  peaks.f32_gflop_s = wide ? gflop_s(dot_avx512, 32) : gflop_s(dot_avx2, 16);
  peaks.bf16_gflop_s = isa == Isa::kAvx512Bf16 ? gflop_s(dot_avx512bf16, 64) : peaks.f32_gflop_s;
  if (tiles) peaks.bf16_gflop_s = gflop_s(dot_amx, kTileFlops) / (isa == Isa::kAmx ? 2 : 1);
  return peaks;
}

Peaks PeakMeter::best_of(int samples) {
  Peaks best;
  for (int i = 0; i < samples; ++i) {
    const Peaks peaks = sample();
    best.read_gb_s = std::max(best.read_gb_s, peaks.read_gb_s);
    best.f32_gflop_s = std::max(best.f32_gflop_s, peaks.f32_gflop_s);
    best.bf16_gflop_s = std::max(best.bf16_gflop_s, peaks.bf16_gflop_s);
  }
  return best;
}

Peaks PeakMeter::since_last(int samples) {
  const Peaks now = best_of(samples);
  const Peaks mean = {.read_gb_s = (last_.read_gb_s + now.read_gb_s) / 2,
                      .f32_gflop_s = (last_.f32_gflop_s + now.f32_gflop_s) / 2,
                      .bf16_gflop_s = (last_.bf16_gflop_s + now.bf16_gflop_s) / 2};
  last_ = now;
  return mean;
}

}  // namespace shoal::bench
