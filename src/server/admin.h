// SPDX-License-Identifier: Apache-2.0
// Routes for operators: effective settings, cache flush, expert records. Those that change something need the admin key.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/engine_host.h"
#include "server/http/routes.h"

namespace shoal {

// An effective setting and where it comes from.
struct Setting {
  std::string name;  // a key of the configuration file, or a flag of the command with its dashes
  nlohmann::ordered_json value;
  std::string source = "default";  // "file x.yaml:3", "env SHOAL_TP", "flag --tp"
  std::string help;
};

class AdminRoutes {
 public:
  AdminRoutes(EngineHost& host, std::string model_name, std::vector<Setting> settings);
  void add_routes(RouteTable& routes);

 private:
  std::shared_ptr<Engine> need_engine() const;
  nlohmann::ordered_json start_recording();
  nlohmann::ordered_json stop_recording();
  nlohmann::ordered_json dump_recording();
  nlohmann::ordered_json server_info() const;

  EngineHost& host_;
  const std::string model_name_;
  const std::vector<Setting> settings_;
  std::mutex mutex_;  // for what follows
  std::weak_ptr<Engine> recording_;
  nlohmann::ordered_json recorded_;  // of the last recording; null: none
};

nlohmann::ordered_json settings_json(const std::vector<Setting>& settings);
// As a file for --config, each value's source behind it.
std::string settings_yaml(const std::vector<Setting>& settings);

}  // namespace shoal
