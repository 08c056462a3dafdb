// SPDX-License-Identifier: Apache-2.0
#include "server/process_stats.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace shoal {
namespace {

// Fields of /proc/self/stat after the command, which may hold blanks: [0] is the state, field 3 of proc(5).
std::vector<std::string> stat_fields() {
  std::ifstream file("/proc/self/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const size_t end = text.rfind(')');
  if (end == std::string::npos) return {};
  std::istringstream rest(text.substr(end + 1));
  return {std::istream_iterator<std::string>(rest), {}};
}

double boot_time() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("btime ")) return std::stod(line.substr(6));
  return 0;
}

int64_t count_fds() {
  std::error_code error;
  std::filesystem::directory_iterator fds("/proc/self/fd", error);
  return error ? 0 : std::distance(fds, {}) - 1;  // less the one that reads them
}

}  // namespace

ProcessStats read_process_stats() {
  constexpr size_t kUserTicks = 11, kSystemTicks = 12, kThreads = 17, kStartTicks = 19, kVirtual = 20, kPages = 21;
  ProcessStats stats;
  const std::vector<std::string> fields = stat_fields();
  if (fields.size() > kPages) {
    const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
    stats.cpu_seconds = (std::stod(fields[kUserTicks]) + std::stod(fields[kSystemTicks])) / ticks;
    stats.start_time_seconds = boot_time() + std::stod(fields[kStartTicks]) / ticks;
    stats.threads = std::stoll(fields[kThreads]);
    stats.virtual_bytes = std::stoll(fields[kVirtual]);
    stats.resident_bytes = std::stoll(fields[kPages]) * sysconf(_SC_PAGESIZE);
  }
  stats.open_fds = count_fds();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) stats.max_fds = static_cast<int64_t>(limit.rlim_cur);
  return stats;
}

}  // namespace shoal
