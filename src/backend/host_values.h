// SPDX-License-Identifier: Apache-2.0
// HostValues: a tensor's f32 values for host code, finished: where they lie if that is the host's memory, else a copy.
// Valid as long as this and the tensor live. Not here: other types (Backend::to_host).
#pragma once

#include <span>
#include <vector>

#include "backend/ops.h"

namespace shoal {

class HostValues {
 public:
  HostValues(Backend& backend, const Tensor& tensor);
  HostValues(const HostValues&) = delete;
  HostValues& operator=(const HostValues&) = delete;
  std::span<const float> get() const { return values_; }

 private:
  std::vector<float> copy_;
  std::span<const float> values_;
};

}  // namespace shoal
