// SPDX-License-Identifier: Apache-2.0
// The version that the server tells.
#pragma once

namespace shoal {

inline constexpr const char* kServerVersion = "0.1.0";

}  // namespace shoal
