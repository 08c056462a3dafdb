// SPDX-License-Identifier: Apache-2.0
// laid_over_nodes: exchanges whole ranks between hosts so that the copies of an expert lie on as many hosts as they can, weighted by load:
// then a token's host more often has a copy, and the network carries less. A rank's own experts stay together, so no rank's load changes.
#pragma once

#include <cstdint>
#include <span>

#include "parallel/placement.h"

namespace shoal {

// `nodes` divides ep; consecutive ranks share a node.
Placement laid_over_nodes(const Placement& placement, std::span<const double> load_of_expert, int64_t nodes);

// The part of all tokens that can find their expert on the host they come from, if every host has the same part of each expert's
// tokens and an expert's copies share evenly.
double tokens_near(const Placement& placement, std::span<const double> load_of_expert, int64_t nodes);

}  // namespace shoal
