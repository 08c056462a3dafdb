// SPDX-License-Identifier: Apache-2.0
// Server: `shoal serve`: a model behind HTTP. Puts together the engine's host, the routes and the HTTP server, and runs them until a signal:
// the first drains (no new requests, running ones end, up to a limit), the second stops at once.
// Not here: what routes answer (health.h, api/), the command line (apps/serve.cc).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/engine_host.h"
#include "server/http/http_server.h"
#include "server/http/routes.h"

namespace shoal {

inline constexpr const char* kServerVersion = "0.1.0";

struct ServerSettings {
  HttpSettings http;
  HostSettings host;
  std::vector<std::string> api_keys;  // empty: anybody
  std::string admin_key;              // empty: who has an API key
  std::string allowed_origin;         // CORS; empty: none
  double drain_seconds = 30;
  bool log_json = false;
  bool log_requests = true;
};

class Server {
 public:
  // Binds the port. `factory`: see EngineHost.
  Server(ServerSettings settings, EngineFactory factory);
  ~Server();

  // Serves until it is stopped; throws what ended the engine for good.
  void run();
  // From any thread: as a signal would, for tests.
  void stop();
  uint16_t port() const;
  EngineHost& host() { return *host_; }

 private:
  RouteTable routes();
  HttpHooks hooks();
  void on_signal(int times);
  void finish_draining();

  const ServerSettings settings_;
  std::unique_ptr<EngineHost> host_;
  std::unique_ptr<HttpServer> http_;
  std::exception_ptr failure_;
  bool draining_ = false;
  std::chrono::steady_clock::time_point drain_until_;
};

}  // namespace shoal
