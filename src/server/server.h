// SPDX-License-Identifier: Apache-2.0
// Server: `shoal serve`: a model behind HTTP. Puts together the engine's host, the routes and the HTTP server, and runs them until a signal:
// the first drains (no new requests, running ones end, up to a limit), the second stops at once.
// Not here: what routes answer (health.h, admin.h, api/), the command line (apps/serve.cc).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/access.h"
#include "server/admin.h"
#include "server/api/api.h"
#include "server/engine_host.h"
#include "server/http/http_server.h"
#include "server/http/routes.h"
#include "server/metrics.h"
#include "server/monitor.h"
#include "server/server_log.h"

namespace shoal {

struct ServerSettings {
  HttpSettings http;
  HostSettings host;
  ApiSettings api;
  std::vector<std::string> api_keys;  // none, and no file of them: anybody
  std::string api_key_file;           // more of them, read again at SIGHUP
  std::string admin_key;              // empty: who has an API key
  std::string allowed_origin;         // CORS; empty: none
  std::vector<Setting> effective;     // for GET /v1/config
  std::string ui_folder;              // where the dashboard's page is read from; empty: the one in the program
  double drain_seconds = 30;
  bool generation_config = true;  // the model's sampling defaults count
  bool log_json = false;
  bool log_requests = true;
};

class Server {
 public:
  // Binds the port. `factory`: see EngineHost; the hooks that it gets bring the model's tokenizer.
  Server(ServerSettings settings, EngineFactory factory);
  ~Server();

  // Serves until it is stopped; throws what ended the engine for good.
  void run();
  // From any thread: as the first and the second signal would.
  void drain();
  void stop();
  uint16_t port() const { return http_->port(); }
  EngineHost& host() { return *host_; }
  ServerLog& log() { return log_; }

 private:
  std::unique_ptr<Engine> make_engine(const EngineFactory& factory, EngineHooks hooks);
  RouteTable routes();
  HttpHooks hooks();
  AccessKeys read_access() const;
  void reload();
  void note_change(const HostStatus& status);
  void on_signal(int times);
  void finish_draining();

  const ServerSettings settings_;
  ServerLog log_;
  AccessKeys access_;  // the I/O thread's
  ServerMetrics metrics_;
  std::unique_ptr<EngineHost> host_;
  std::unique_ptr<Monitor> monitor_;
  std::unique_ptr<Api> api_;
  std::unique_ptr<AdminRoutes> admin_;
  std::unique_ptr<HttpServer> http_;
  std::exception_ptr failure_;
  std::string told_state_, told_stall_;  // the host thread's, and the I/O thread's
  std::mutex told_mutex_;
  bool draining_ = false, cut_short_ = false;  // the I/O thread's
  std::chrono::steady_clock::time_point drain_until_;
};

}  // namespace shoal
