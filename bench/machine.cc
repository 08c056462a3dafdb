// SPDX-License-Identifier: Apache-2.0
#include "machine.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "backend/cpu/allocator.h"
#include "backend/cpu/isa.h"

namespace shoal::bench {
namespace {

constexpr int64_t kDotRounds = 200'000;
constexpr int kChains = 12;  // more than latency * units of any core
constexpr size_t kBytesPerThread = size_t{128} << 20;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

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

__attribute__((target("avx2"))) int64_t read_all(const std::byte* data, size_t bytes) {
  __m256i sums[4] = {};
  for (size_t i = 0; i < bytes; i += 128) {
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 4096), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 4160), _MM_HINT_T0);
    for (size_t v = 0; v < 4; ++v) {
      sums[v] = _mm256_xor_si256(sums[v], _mm256_load_si256(reinterpret_cast<const __m256i*>(data + i + 32 * v)));
    }
  }
  const __m256i all = _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  return _mm256_extract_epi64(all, 0) ^ _mm256_extract_epi64(all, 1);
}

std::atomic<int64_t> sink{0};

// Best time of one call of fn(thread) on each thread, all begun together.
template <typename Function>
double best_seconds(int threads, int repeats, const Function& fn) {
  std::vector<double> slowest(static_cast<size_t>(repeats), 0.0);
  for (double& result : slowest) {
    std::atomic<int> ready{0};
    std::vector<double> took(static_cast<size_t>(threads));
    const auto body = [&](int thread) {
      ++ready;
      while (ready < threads) std::this_thread::yield();
      const double start = seconds_now();
      fn(thread);
      took[static_cast<size_t>(thread)] = seconds_now() - start;
    };
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(body, thread);
    body(0);
    for (std::thread& other : others) other.join();
    result = *std::max_element(took.begin(), took.end());
  }
  return *std::min_element(slowest.begin(), slowest.end());
}

double dot_gflop_s(int threads, void (*dot)(), int flops) {
  const double seconds = best_seconds(threads, 4, [&](int) { dot(); });
  return static_cast<double>(kDotRounds) * kChains * flops * threads / seconds * 1e-9;
}

}  // namespace

Peaks measure_peaks(int threads) {
  const std::shared_ptr<std::byte> memory = Arena().allocate(static_cast<size_t>(threads) * kBytesPerThread);
  Peaks peaks;
  const auto slice = [&](int thread) { return memory.get() + static_cast<size_t>(thread) * kBytesPerThread; };
  best_seconds(threads, 1, [&](int thread) { std::memset(slice(thread), 1, kBytesPerThread); });
  const double bytes = static_cast<double>(kBytesPerThread) * threads;
  peaks.read_gb_s =
      bytes / best_seconds(threads, 5, [&](int t) { sink += read_all(slice(t), kBytesPerThread - 8192); }) * 1e-9;
  const double copy = best_seconds(threads, 4, [&](int thread) {
    std::memcpy(slice(thread), slice(thread) + kBytesPerThread / 2, kBytesPerThread / 2);
  });
  peaks.copy_gb_s = bytes / 2 / copy * 1e-9;
  peaks.f32_gflop_s =
      isa_available(Isa::kAvx512) ? dot_gflop_s(threads, dot_avx512, 32) : dot_gflop_s(threads, dot_avx2, 16);
  peaks.bf16_gflop_s = isa_available(Isa::kAvx512Bf16) ? dot_gflop_s(threads, dot_avx512bf16, 64) : peaks.f32_gflop_s;
  return peaks;
}

}  // namespace shoal::bench
