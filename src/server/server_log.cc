// SPDX-License-Identifier: Apache-2.0
#include "server/server_log.h"

#include <fmt/format.h>
#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "base/json_file.h"

namespace shoal {
namespace {

constexpr size_t kQueuedLines = 8192;
constexpr size_t kShownValueBytes = 400;

}  // namespace

ServerLog::ServerLog(bool json)
    : json_(json), threads_(std::make_shared<spdlog::details::thread_pool>(kQueuedLines, 1)) {
  logger_ = std::make_shared<spdlog::async_logger>("shoal", std::make_shared<spdlog::sinks::stderr_sink_mt>(), threads_,
                                                   spdlog::async_overflow_policy::overrun_oldest);
  logger_->set_pattern(json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})" : "%Y-%m-%d %H:%M:%S.%e %L %v");
  logger_->flush_on(spdlog::level::info);
}

ServerLog::~ServerLog() = default;

std::string ServerLog::line(const std::string& text, const nlohmann::ordered_json& fields) const {
  if (json_) {
    nlohmann::ordered_json object = {{"message", text}};
    if (fields.is_object()) object.update(fields);
    const std::string whole = object.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace);
    return whole.substr(1, whole.size() - 2);
  }
  std::string line = text;
  if (!fields.is_object()) return line;
  for (const auto& [key, value] : fields.items())
    line += fmt::format(
        " {}={}", key,
        value.is_string() ? printable(value.get_ref<const std::string&>(), kShownValueBytes) : value.dump());
  return line;
}

void ServerLog::info(const std::string& text, const nlohmann::ordered_json& fields) {
  logger_->info(line(text, fields));
}
void ServerLog::warn(const std::string& text, const nlohmann::ordered_json& fields) {
  logger_->warn(line(text, fields));
}

}  // namespace shoal
