// SPDX-License-Identifier: Apache-2.0
// What this machine gives the process: cores and memory, within the limits of its control groups, and which cores ranks are pinned to.
// Pages belong to the node of the thread that touches them first; a rank's own threads fill its weights and caches, so that pinning them to one
// node's cores binds its memory there too.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace shoal {

// A processor of the operating system.
struct Core {
  int id = 0;
  int node = 0;     // of memory
  int sibling = 0;  // > 0: shares its physical core with an earlier one that the process may use
  bool operator==(const Core&) const = default;
};

struct Machine {
  std::vector<Core> cores;      // that the process may run on
  int usable_cores = 1;         // physical ones, fewer under a CPU quota
  bool has_quota = false;       // of CPU time
  int64_t available_bytes = 0;  // memory that can still be had without swapping
  std::string memory_limit;     // who sets it, for messages: "the host" or "the control group /..."
};

// Reads /proc and /sys below `root`.
Machine read_machine(const std::filesystem::path& root = "/");

// Cores to which each rank's threads are pinned, if there is one for every thread; else none (empty lists). A rank's are of one node where
// one has as many free; physical cores are taken before their second threads, and nodes are filled in rank order.
std::vector<std::vector<int>> pinned_cores(const Machine& machine, int ranks, int threads_per_rank);

}  // namespace shoal
