// SPDX-License-Identifier: Apache-2.0
#include "engine/machine.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <thread>

namespace shoal {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

std::optional<int64_t> read_number(const fs::path& file) {
  std::ifstream in(file);
  int64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;  // absent, or "max"
}

// The value after `key` in a file of "key value" lines.
std::optional<int64_t> read_field(const fs::path& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name;
    int64_t value = 0;
    if (words >> name >> value && name == key) return value;
  }
  return std::nullopt;
}

std::vector<int> allowed_cores() {
  std::vector<int> cores;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(core, &set)) cores.push_back(core);
  if (cores.empty())  // more cores than cpu_set_t holds
    for (int core = 0; core < static_cast<int>(std::thread::hardware_concurrency()); ++core) cores.push_back(core);
  if (cores.empty()) cores.push_back(0);
  return cores;
}

// This process's control group (v2, or v1's `controller`) and its parents, innermost first.
std::vector<fs::path> control_groups(const fs::path& root, const std::string& controller) {
  std::ifstream in(root / "proc/self/cgroup");
  std::vector<fs::path> result;
  for (std::string line; std::getline(in, line);) {  // "0::/path" or "4:cpu,cpuacct:/path"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    const bool unified = names.empty();
    if (!unified && fmt::format(",{},", names).find(fmt::format(",{},", controller)) == std::string::npos) continue;
    const fs::path base = unified ? root / "sys/fs/cgroup" : root / "sys/fs/cgroup" / controller;
    const fs::path own = fs::path(line.substr(second + 1)).relative_path();
    for (fs::path path = own; !path.empty(); path = path.parent_path()) result.push_back(base / path);
    result.push_back(base);  // inside a container the own path may not be visible
  }
  return result;
}

void limit_memory(Machine& machine, const fs::path& root) {
  machine.memory_limit = "the host";
  machine.available_bytes = read_field(root / "proc/meminfo", "MemAvailable:").value_or(0) * 1024;
  for (const fs::path& group : control_groups(root, "memory")) {
    const bool unified = fs::exists(group / "memory.max");
    const auto limit = read_number(group / (unified ? "memory.max" : "memory.limit_in_bytes"));
    const auto used = read_number(group / (unified ? "memory.current" : "memory.usage_in_bytes"));
    if (!limit || !used || *limit >= kNoLimit / 2) continue;
    // Page cache that nobody uses is given up when needed.
    const int64_t reclaimable = read_field(group / "memory.stat", "inactive_file").value_or(0);
    const int64_t available = std::max<int64_t>(0, *limit - *used + reclaimable);
    if (available < machine.available_bytes) {
      machine.available_bytes = available;
      machine.memory_limit = "the control group " + group.string();
    }
  }
}

void limit_cores(Machine& machine, const fs::path& root) {
  machine.usable_cores = static_cast<int>(machine.cores.size());
  for (const fs::path& group : control_groups(root, "cpu")) {
    int64_t quota = -1, period = 0;
    if (std::ifstream unified(group / "cpu.max"); unified) {
      if (!(unified >> quota >> period)) continue;  // "max 100000"
    } else {
      quota = read_number(group / "cpu.cfs_quota_us").value_or(-1);
      period = read_number(group / "cpu.cfs_period_us").value_or(0);
    }
    if (quota <= 0 || period <= 0) continue;
    const int whole = static_cast<int>((quota + period - 1) / period);
    machine.usable_cores = std::min(machine.usable_cores, std::max(1, whole));
  }
}

}  // namespace

Machine read_machine(const fs::path& root) {
  Machine machine;
  machine.cores = allowed_cores();
  limit_cores(machine, root);
  limit_memory(machine, root);
  return machine;
}

std::vector<std::vector<int>> pinned_cores(const Machine& machine, int ranks, int threads_per_rank) {
  std::vector<std::vector<int>> result(ranks);
  // Under a quota the kernel chooses better than we could.
  if (machine.usable_cores < static_cast<int>(machine.cores.size())) return result;
  if (static_cast<int64_t>(ranks) * threads_per_rank > machine.usable_cores) return result;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto first = machine.cores.begin() + static_cast<std::ptrdiff_t>(rank) * threads_per_rank;
    result[rank].assign(first, first + threads_per_rank);
  }
  return result;
}

}  // namespace shoal
