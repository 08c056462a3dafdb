// SPDX-License-Identifier: Apache-2.0
#include "server/admin.h"

#include <fmt/format.h>

#include "base/version.h"
#include "server/errors.h"
#include "server/health.h"
#include "server/status.h"

namespace shoal {

using Json = nlohmann::ordered_json;

AdminRoutes::AdminRoutes(EngineHost& host, std::string model_name, std::vector<Setting> settings)
    : host_(host), model_name_(std::move(model_name)), settings_(std::move(settings)) {}

std::shared_ptr<Engine> AdminRoutes::need_engine() const {
  auto engine = host_.engine();
  if (engine) return engine;
  throw not_ready(host_.status()).value_or(ApiError(503, "loading", "the model is being loaded"));
}

void AdminRoutes::add_routes(RouteTable& routes) {
  routes.get("/v1/config", Access::kAdmin,
             answer([this](const HttpRequest&) { return json_reply(settings_json(settings_)); }));
  routes.get("/server_info", Access::kAdmin, answer([this](const HttpRequest&) { return json_reply(server_info()); }));
  const Handler flush = answer([this](const HttpRequest&) {
    need_engine()->clear_cache();
    return json_reply({{"success", true}, {"message", "cached prefixes that no request uses are forgotten"}});
  });
  for (const char* path : {"/flush_cache", "/reset_prefix_cache"}) routes.post(path, Access::kAdmin, flush);
  const auto record = [&](const char* path, Json (AdminRoutes::*what)()) {
    routes.post(path, Access::kAdmin, answer([this, what](const HttpRequest&) { return json_reply((this->*what)()); }),
                RunOn::kWorker);
  };
  record("/start_expert_distribution_record", &AdminRoutes::start_recording);
  record("/stop_expert_distribution_record", &AdminRoutes::stop_recording);
  record("/dump_expert_distribution_record", &AdminRoutes::dump_recording);
}

Json AdminRoutes::start_recording() {
  const auto engine = need_engine();
  if (!engine->spec().has_moe()) {
    ApiError error(400, "no_experts", "this model has no routed experts, so there is nothing to record");
    throw error;
  }
  const std::lock_guard lock(mutex_);
  engine->start_expert_statistics();
  recording_ = engine;
  recorded_ = nullptr;
  return {{"recording", true}};
}

Json AdminRoutes::stop_recording() {
  const std::lock_guard lock(mutex_);
  const auto engine = recording_.lock();
  if (!engine) {
    ApiError error(400, "not_recording", "no record of expert loads has been started");
    error.hint = "POST /start_expert_distribution_record first";
    throw error;
  }
  const std::string& path = engine->config().expert_statistic.path;
  recorded_ = {{"recording", false}, {"steps", engine->stop_expert_statistics(path)}, {"path", path}};
  recording_.reset();
  return recorded_;
}

// What runs is stopped first; what was stopped is told again.
Json AdminRoutes::dump_recording() {
  {
    const std::lock_guard lock(mutex_);
    if (recording_.expired() && !recorded_.is_null()) return recorded_;
  }
  return stop_recording();
}

Json AdminRoutes::server_info() const {
  const HostStatus status = host_.status();
  Json info = {{"version", kVersion}, {"model", model_name_}, {"state", host_state_name(status.state)}};
  if (const auto engine = host_.engine()) {
    const EngineInfo& engine_info = engine->info();
    info["layout"] = layout_text(engine->mesh().sizes(), engine->spec().has_moe());
    info["world_size"] = engine->mesh().world_size();
    info["backend"] = engine_info.backend;
    info["dtype"] = dtype_name(engine_info.dtype);
    info["max_seq_len"] = engine_info.max_seq_len;
    info["kv_tokens"] = engine_info.kv.tokens;
    info["threads_per_rank"] = engine_info.threads_per_rank;
  }
  info.update(settings_json(settings_));
  return info;
}

Json settings_json(const std::vector<Setting>& settings) {
  Json list = Json::array();
  for (const Setting& setting : settings)
    list.push_back(
        {{"name", setting.name}, {"value", setting.value}, {"source", setting.source}, {"help", setting.help}});
  return {{"settings", std::move(list)}};
}

// JSON's scalars and lists are YAML's; dots nest. What is no key of the file, or has no value, is a comment.
std::string settings_yaml(const std::vector<Setting>& settings) {
  std::string text, section;
  for (const Setting& setting : settings) {
    const size_t dot = setting.name.rfind('.');
    const std::string parent = dot == std::string::npos ? "" : setting.name.substr(0, dot);
    const std::string name = dot == std::string::npos ? setting.name : setting.name.substr(dot + 1);
    const bool key = !setting.name.starts_with("--") && !setting.value.is_null();
    if (key && parent != section) {
      if (!parent.empty()) text += parent + ":\n";
      section = parent;
    }
    const std::string line = key ? fmt::format("{}{}: {}", parent.empty() ? "" : "  ", name, json_text(setting.value))
                                 : fmt::format("# {} {}", setting.name, json_text(setting.value));
    text += fmt::format("{:<56} # {}\n", line, setting.source);
  }
  return text;
}

}  // namespace shoal
