// SPDX-License-Identifier: Apache-2.0
// The commands under `shoal bench`.
#pragma once

#include <memory>

#include "apps/command.h"

namespace shoal::bench {

std::unique_ptr<Command> throughput_command();
std::unique_ptr<Command> latency_command();
std::unique_ptr<Command> serve_bench_command();
std::unique_ptr<Command> compare_command();

}  // namespace shoal::bench
