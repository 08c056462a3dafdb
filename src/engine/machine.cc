// SPDX-License-Identifier: Apache-2.0
#include "engine/machine.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>

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

std::vector<int> allowed_ids() {
  std::vector<int> ids;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int id = 0; id < CPU_SETSIZE; ++id)
      if (CPU_ISSET(id, &set)) ids.push_back(id);
  if (ids.empty())  // more than cpu_set_t holds
    for (int id = 0; id < static_cast<int>(std::thread::hardware_concurrency()); ++id) ids.push_back(id);
  if (ids.empty()) ids.push_back(0);
  return ids;
}

// A list such as "0-3,8"; empty if the file is absent.
std::vector<int> read_list(const fs::path& file) {
  std::vector<int> ids;
  std::ifstream in(file);
  for (std::string range; std::getline(in, range, ',');) {
    std::istringstream ends(range);
    int first = 0;
    if (!(ends >> first)) continue;
    int last = first;
    if (char dash = 0; ends >> dash) ends >> last;
    for (int id = first; id <= last; ++id) ids.push_back(id);
  }
  return ids;
}

std::vector<Core> describe_cores(const std::vector<int>& ids, const fs::path& root) {
  std::vector<Core> cores;
  for (const int id : ids) {
    const auto siblings =
        read_list(root / fmt::format("sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", id));
    const auto earlier = [&](int other) { return other < id && std::binary_search(ids.begin(), ids.end(), other); };
    cores.push_back({.id = id, .sibling = static_cast<int>(std::count_if(siblings.begin(), siblings.end(), earlier))});
  }
  for (const int node : read_list(root / "sys/devices/system/node/online")) {
    const auto of_node = read_list(root / fmt::format("sys/devices/system/node/node{}/cpulist", node));
    for (Core& core : cores)
      if (std::find(of_node.begin(), of_node.end(), core.id) != of_node.end()) core.node = node;
  }
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
  machine.usable_cores = static_cast<int>(
      std::count_if(machine.cores.begin(), machine.cores.end(), [](const Core& core) { return core.sibling == 0; }));
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
    machine.has_quota |= whole < static_cast<int>(machine.cores.size());
    machine.usable_cores = std::min(machine.usable_cores, std::max(1, whole));
  }
}

using CoreLists = std::vector<std::vector<int>>;

// Ids of cores by (sibling, node), each list in ascending order.
CoreLists group_cores(const std::vector<Core>& cores) {
  std::map<std::pair<int, int>, std::vector<int>> groups;
  for (const Core& core : cores) groups[{core.sibling, core.node}].push_back(core.id);
  CoreLists lists;
  for (auto& [place, ids] : groups) lists.push_back(std::move(ids));
  return lists;
}

void take(std::vector<int>& from, size_t count, std::vector<int>& to) {
  const auto end = from.begin() + static_cast<std::ptrdiff_t>(std::min(count, from.size()));
  to.insert(to.end(), from.begin(), end);
  from.erase(from.begin(), end);
}

}  // namespace

Machine read_machine(const std::filesystem::path& root) {
  Machine machine;
  machine.cores = describe_cores(allowed_ids(), root);
  limit_cores(machine, root);
  limit_memory(machine, root);
  return machine;
}

CoreLists pinned_cores(const Machine& machine, int ranks, int threads_per_rank) {
  CoreLists result(ranks);
  // Under a quota the kernel chooses better than we could.
  if (machine.has_quota || static_cast<int64_t>(ranks) * threads_per_rank > std::ssize(machine.cores)) return result;
  const auto threads = static_cast<size_t>(threads_per_rank);
  CoreLists free = group_cores(machine.cores);
  for (std::vector<int>& rank : result) {
    const auto whole = std::find_if(free.begin(), free.end(), [&](const auto& ids) { return ids.size() >= threads; });
    if (whole != free.end()) {
      take(*whole, threads, rank);
    } else {
      for (std::vector<int>& ids : free) take(ids, threads - rank.size(), rank);
    }
  }
  return result;
}

}  // namespace shoal
