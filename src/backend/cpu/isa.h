// SPDX-License-Identifier: Apache-2.0
// Instruction-set paths of the CPU backend. Kernels are templates, compiled once per path in files named *_<path>.cc
// (CMakeLists.txt gives each its flags) and reached through tables of function pointers, chosen once when a backend is
// made. Not here: the vector type itself (simd.h, for those files only).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

enum class Isa : uint8_t { kPlain, kAvx2, kAvx512, kAvx512Bf16, kAmx, kAmxBf16 };

std::string_view isa_name(Isa isa);  // plain, avx2, avx512, avx512bf16, amx, amxbf16
bool isa_available(Isa isa);         // by the processor and the operating system
std::vector<Isa> isas_available();   // fastest first; never empty
// Bits of the significand of f32 activations that products with bf16 matrices take: 24 as they are, 17 as the sum of two bf16, 8 rounded to bf16, as
// are queries and weights of attention over a bf16 cache then.
int activation_bits(Isa isa);
// Whether products read weights fastest when they fetch them into both caches, further ahead into the second. Intel's processors do (by a sixth);
// on AMD's, fetching from afar holds up their own fetching of a single stream.
bool fetches_far();
// Throws Error for an unknown name or one that this machine lacks; "" is the fastest.
Isa isa_from_name(const std::string& name);

// The entry of a path out of one per path, such as addresses of its kernel table.
template <typename T>
const T& select_isa(Isa isa, const T& plain, const T& avx2, const T& avx512, const T& avx512bf16, const T& amx,
                    const T& amxbf16) {
  switch (isa) {
    case Isa::kAmxBf16:
      return amxbf16;
    case Isa::kAmx:
      return amx;
    case Isa::kAvx512Bf16:
      return avx512bf16;
    case Isa::kAvx512:
      return avx512;
    case Isa::kAvx2:
      return avx2;
    case Isa::kPlain:
      break;
  }
  return plain;
}

}  // namespace shoal
