// SPDX-License-Identifier: Apache-2.0
#include "engine/machine.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace shoal {
namespace {

namespace fs = std::filesystem;

// A made-up /proc and /sys.
class FakeRoot {
 public:
  FakeRoot() : path_(fs::temp_directory_path() / ("shoal_machine_test." + std::to_string(getpid()))) {
    fs::create_directories(path_);
  }
  ~FakeRoot() { fs::remove_all(path_); }
  FakeRoot& file(const fs::path& name, const std::string& text) {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
    return *this;
  }
  Machine read() const { return read_machine(path_); }

 private:
  fs::path path_;
};

const char* const kMemInfo = "MemTotal: 4000000 kB\nMemFree: 10 kB\nMemAvailable: 2000000 kB\n";

TEST(Machine, HostMemoryWithoutControlGroups) {
  const Machine machine = FakeRoot().file("proc/meminfo", kMemInfo).read();
  EXPECT_EQ(machine.available_bytes, int64_t{2000000} * 1024);
  EXPECT_EQ(machine.memory_limit, "the host");
  EXPECT_EQ(machine.usable_cores, static_cast<int>(machine.cores.size()));
  EXPECT_FALSE(machine.has_quota);
}

TEST(Machine, TightestParentGroupCounts) {
  const Machine machine = FakeRoot()
                              .file("proc/meminfo", kMemInfo)
                              .file("proc/self/cgroup", "0::/outer/inner\n")
                              .file("sys/fs/cgroup/outer/inner/memory.max", "max\n")
                              .file("sys/fs/cgroup/outer/inner/memory.current", "5\n")
                              .file("sys/fs/cgroup/outer/memory.max", "1000000\n")
                              .file("sys/fs/cgroup/outer/memory.current", "400000\n")
                              .file("sys/fs/cgroup/outer/memory.stat", "anon 7\ninactive_file 100000\n")
                              .file("sys/fs/cgroup/outer/cpu.max", "50000 100000\n")
                              .read();
  EXPECT_EQ(machine.available_bytes, 700000);
  EXPECT_NE(machine.memory_limit.find("outer"), std::string::npos);
  EXPECT_EQ(machine.usable_cores, 1);
}

TEST(Machine, OldControlGroups) {
  const Machine machine = FakeRoot()
                              .file("proc/meminfo", kMemInfo)
                              .file("proc/self/cgroup", "4:memory:/job\n3:cpu,cpuacct:/job\n")
                              .file("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "3000000\n")
                              .file("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1000000\n")
                              .file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
                              .file("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000000\n")
                              .read();
  EXPECT_EQ(machine.available_bytes, 2000000);
}

TEST(Machine, PinsOnlyWhereEveryThreadHasACore) {
  Machine machine;
  machine.cores = {{.id = 0}, {.id = 2}, {.id = 4}, {.id = 6}};
  EXPECT_EQ(pinned_cores(machine, 2, 2), (std::vector<std::vector<int>>{{0, 2}, {4, 6}}));
  EXPECT_EQ(pinned_cores(machine, 3, 2), (std::vector<std::vector<int>>{{}, {}, {}}));
  machine.has_quota = true;
  EXPECT_EQ(pinned_cores(machine, 1, 1), (std::vector<std::vector<int>>{{}}));
}

// Two nodes of three physical cores with two threads each, numbered as Linux does: 0 to 5 first threads, 6 to 11 second ones.
Machine two_nodes() {
  Machine machine;
  for (int id = 0; id < 12; ++id) machine.cores.push_back({.id = id, .node = id % 6 / 3, .sibling = id / 6});
  return machine;
}

TEST(Machine, RanksStayOnOneNodeAndOnPhysicalCoresFirst) {
  using Lists = std::vector<std::vector<int>>;
  EXPECT_EQ(pinned_cores(two_nodes(), 2, 3), (Lists{{0, 1, 2}, {3, 4, 5}}));
  EXPECT_EQ(pinned_cores(two_nodes(), 2, 2), (Lists{{0, 1}, {3, 4}}));
  EXPECT_EQ(pinned_cores(two_nodes(), 3, 2), (Lists{{0, 1}, {3, 4}, {6, 7}}));
  EXPECT_EQ(pinned_cores(two_nodes(), 1, 6), (Lists{{0, 1, 2, 3, 4, 5}}));
  EXPECT_EQ(pinned_cores(two_nodes(), 4, 1), (Lists{{0}, {1}, {2}, {3}}));
}

TEST(Machine, EveryCoreIsGivenOnceAtMost) {
  for (int threads = 1; threads <= 12; ++threads) {
    std::vector<int> given;
    for (const std::vector<int>& rank : pinned_cores(two_nodes(), 12 / threads, threads)) {
      EXPECT_EQ(rank.size(), static_cast<size_t>(threads));
      given.insert(given.end(), rank.begin(), rank.end());
    }
    std::sort(given.begin(), given.end());
    EXPECT_EQ(std::adjacent_find(given.begin(), given.end()), given.end());
  }
}

// The cores themselves are this process's; what is told of them is made up.
TEST(Machine, ReadsNodesAndSiblings) {
  const std::vector<Core> cores = read_machine().cores;
  if (cores.size() < 2) GTEST_SKIP() << "one core only";
  const int first = cores[0].id, second = cores[1].id;
  const std::string pair = std::to_string(first) + "," + std::to_string(second) + "\n";
  const std::string topology = "/topology/thread_siblings_list", cpu = "sys/devices/system/cpu/cpu";
  const Machine machine = FakeRoot()
                              .file(cpu + std::to_string(first) + topology, pair)
                              .file(cpu + std::to_string(second) + topology, pair)
                              .file("sys/devices/system/node/online", "0-1\n")
                              .file("sys/devices/system/node/node1/cpulist", pair)
                              .read();
  EXPECT_EQ(machine.cores[0], (Core{.id = first, .node = 1, .sibling = 0}));
  EXPECT_EQ(machine.cores[1], (Core{.id = second, .node = 1, .sibling = 1}));
  EXPECT_EQ(machine.usable_cores, static_cast<int>(cores.size()) - 1);
}

}  // namespace
}  // namespace shoal
