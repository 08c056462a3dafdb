// SPDX-License-Identifier: Apache-2.0
// Makes backends by name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/memory_meter.h"
#include "backend/ops.h"

namespace shoal {

struct BackendOptions {
  std::string device = "cpu";  // cpu, reference
  std::string isa;             // cpu: one of available_isas(); empty: the fastest
  int threads = 1;             // compute threads of this rank, the calling one included
  std::vector<int> cores;      // cores to pin them to; empty: not pinned
  // cpu: takes all memory that it would, and computes nothing; floats are whatever lies there, and routers spread tokens evenly.
  bool dry = false;
  std::shared_ptr<MemoryMeter> memory{};  // cpu: counts there
};

// Throws Error for an unknown device or an instruction set that this machine lacks.
std::unique_ptr<Backend> make_backend(const BackendOptions& options);
// Instruction-set paths that this machine can run, best first.
std::vector<std::string> available_isas();
// Bits of activations that such a path keeps in products with bf16 matrices: 24, 17 or 8 (cpu/isa.h). Throws as make_backend does.
int activation_bits(const std::string& isa);

}  // namespace shoal
