// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"

namespace shoal {

std::string_view isa_name(Isa isa) {
  return select_isa<std::string_view>(isa, "plain", "avx2", "avx512", "avx512bf16", "amx", "amxbf16");
}

int activation_bits(Isa isa) { return select_isa(isa, 24, 24, 24, 8, 17, 8); }

namespace {

// What differs between makers, and no flag tells that a virtual machine could not hide.
bool made_by_intel() {
#if defined(__x86_64__)
  return __builtin_cpu_is("intel") != 0;
#else
  return false;
#endif
}

// The instruction that multiplies pairs of bf16 has twice the rate of fused multiply-adds on AMD's processors (236 and 118 GF/s a core of Zen 4)
// and half of it on Intel's (82 and 157 on a Xeon of model 207).
bool pairs_are_slow() { return made_by_intel(); }

#if defined(__x86_64__)
// Matrix tiles and their products of bf16, by the processor and by Linux, which gives tiles only to a process that asks; threads and forked children
// keep them. (Not every compiler's __builtin_cpu_supports knows them.)
bool has_tiles() {
  static const bool has = [] {
    constexpr unsigned kFeatures = 7, kBf16 = 1u << 22, kTiles = 1u << 24;  // leaf 7 of cpuid, in edx
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM; the tiles' place in saved state
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(kFeatures, 0, &a, &b, &c, &d) == 0 || (d & kBf16) == 0 || (d & kTiles) == 0) return false;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return has;
}
#endif

}  // namespace

bool fetches_far() { return made_by_intel(); }

bool isa_available(Isa isa) {
#if defined(__x86_64__)
  // These ask the processor, and the operating system whether it saves the wide registers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx512bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  const bool amx = avx512bf16 && has_tiles();
  return select_isa(isa, true, avx2, avx512, avx512bf16, amx, amx);
#else
  return isa == Isa::kPlain;
#endif
}

std::vector<Isa> isas_available() {
  std::vector<Isa> available;
  const bool slow = pairs_are_slow();
  for (const Isa isa : {Isa::kAmxBf16, Isa::kAmx, slow ? Isa::kAvx512 : Isa::kAvx512Bf16,
                        slow ? Isa::kAvx512Bf16 : Isa::kAvx512, Isa::kAvx2, Isa::kPlain}) {
    if (isa_available(isa)) available.push_back(isa);
  }
  return available;
}

Isa isa_from_name(const std::string& name) {
  const std::vector<Isa> available = isas_available();
  if (name.empty()) return available.front();
  const auto found = std::find_if(available.begin(), available.end(), [&](Isa isa) { return isa_name(isa) == name; });
  if (found != available.end()) return *found;
  std::string names;
  for (const Isa isa : available) names += (names.empty() ? "" : ", ") + std::string(isa_name(isa));
  throw Error(ErrorKind::kInvalid,
              "instruction set '" + name + "' cannot be used on this machine; choose one of " + names);
}

}  // namespace shoal
