// SPDX-License-Identifier: Apache-2.0
// HostEvents: what is worth telling of the changes of an engine host. Calls may come from several threads.
#pragma once

#include <mutex>
#include <optional>

#include "server/engine_host.h"
#include "server/history.h"

namespace shoal {

class HostEvents {
 public:
  // After a change; nothing for one that is mere progress.
  std::optional<Event> next(const HostStatus& status, double time);

 private:
  std::mutex mutex_;
  std::optional<HostStatus> last_;
};

}  // namespace shoal
