// SPDX-License-Identifier: Apache-2.0
// shoal serve: a model behind an OpenAI-compatible HTTP interface.
#include <fmt/format.h>

#include <filesystem>

#include "apps/command.h"
#include "apps/report.h"
#include "server/server.h"

namespace shoal {
namespace {

class Serve : public Command {
 public:
  const char* name() const override { return "serve"; }
  const char* summary() const override { return "Serve a model over HTTP, as OpenAI's API"; }

  void declare(CLI::App& app) override {
    app.add_option("MODEL", model_, "model directory: config.json, *.safetensors, tokenizer.json")->required();
    app.add_option("--host", settings_.http.host, "address to listen on; 0.0.0.0: all")->capture_default_str();
    app.add_option("--port", settings_.http.port, "0: any free one")
        ->capture_default_str()
        ->check(CLI::Range(0, 65535));
  }

  int run(const EngineConfig& config) override {
    Server server(settings_, [&](const EngineHooks& hooks) { return std::make_unique<Engine>(model_, config, hooks); });
    server.run();
    return 0;
  }

 private:
  std::string model_;
  ServerSettings settings_;
};

}  // namespace

std::unique_ptr<Command> serve_command() { return std::make_unique<Serve>(); }

}  // namespace shoal
