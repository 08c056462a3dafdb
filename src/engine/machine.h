// SPDX-License-Identifier: Apache-2.0
// What this machine gives the process: cores and memory, within the limits of its control groups.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace shoal {

struct Machine {
  std::vector<int> cores;       // that the process may run on
  int usable_cores = 1;         // fewer than cores.size() under a CPU quota
  int64_t available_bytes = 0;  // memory that can still be had without swapping
  std::string memory_limit;     // who sets it, for messages: "the host" or "the control group /..."
};

// Reads /proc and /sys below `root`.
Machine read_machine(const std::filesystem::path& root = "/");

// Cores to which each rank's threads are pinned: consecutive ones, if there is a core for every thread; else none (empty lists).
std::vector<std::vector<int>> pinned_cores(const Machine& machine, int ranks, int threads_per_rank);

}  // namespace shoal
