// SPDX-License-Identifier: Apache-2.0
#include "engine/machine.h"

#include <gtest/gtest.h>
#include <unistd.h>

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
  machine.cores = {0, 2, 4, 6};
  machine.usable_cores = 4;
  EXPECT_EQ(pinned_cores(machine, 2, 2), (std::vector<std::vector<int>>{{0, 2}, {4, 6}}));
  EXPECT_EQ(pinned_cores(machine, 3, 2), (std::vector<std::vector<int>>{{}, {}, {}}));
  machine.usable_cores = 3;  // under a quota
  EXPECT_EQ(pinned_cores(machine, 1, 1), (std::vector<std::vector<int>>{{}}));
}

}  // namespace
}  // namespace shoal
