// SPDX-License-Identifier: Apache-2.0
#include "backend/factory.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference_backend.h"
#include "base/error.h"

namespace shoal {

std::unique_ptr<Backend> make_backend(const BackendOptions& options) {
  if (options.threads < 1) {
    throw Error(ErrorKind::kInvalid,
                "threads per rank is " + std::to_string(options.threads) + "; it must be at least 1");
  }
  if (options.device == "cpu") return std::make_unique<CpuBackend>(options);
  if (options.device == "reference") return std::make_unique<ReferenceBackend>();
  throw Error(ErrorKind::kInvalid, "device '" + options.device + "' is unknown; choose cpu or reference");
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa isa : isas_available()) names.emplace_back(isa_name(isa));
  return names;
}

int activation_bits(const std::string& isa) { return activation_bits(isa_from_name(isa)); }

}  // namespace shoal
