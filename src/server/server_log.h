// SPDX-License-Identifier: Apache-2.0
// ServerLog: lines on standard error, as text or as JSON objects, written by a thread of its own, so that a slow reader of the log holds up
// nothing (the oldest lines are then lost). What clients sent is shown with control characters taken out.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace spdlog {
class async_logger;
class logger;
namespace details {
class thread_pool;
}
}  // namespace spdlog

namespace shoal {

class ServerLog {
 public:
  explicit ServerLog(bool json);
  ~ServerLog();

  void info(const std::string& text, const nlohmann::ordered_json& fields = {});
  void warn(const std::string& text, const nlohmann::ordered_json& fields = {});

 private:
  std::string line(const std::string& text, const nlohmann::ordered_json& fields) const;

  const bool json_;
  std::shared_ptr<spdlog::details::thread_pool> threads_;
  std::shared_ptr<spdlog::logger> logger_;
};

}  // namespace shoal
