// SPDX-License-Identifier: Apache-2.0
// What the operating system says of this process; names and meaning are those of Prometheus's process collector.
#pragma once

#include <cstdint>

namespace shoal {

struct ProcessStats {
  double cpu_seconds = 0;         // user and system
  double start_time_seconds = 0;  // since 1970
  int64_t resident_bytes = 0;
  int64_t virtual_bytes = 0;
  int64_t open_fds = 0;
  int64_t max_fds = 0;
  int64_t threads = 0;
};

// Reads /proc/self; what cannot be read stays 0.
ProcessStats read_process_stats();

}  // namespace shoal
