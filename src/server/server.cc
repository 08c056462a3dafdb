// SPDX-License-Identifier: Apache-2.0
#include "server/server.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "server/access.h"
#include "server/errors.h"
#include "server/health.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

constexpr auto kWatch = std::chrono::milliseconds(500);
constexpr auto kDrainTick = std::chrono::milliseconds(50);

}  // namespace

Server::Server(ServerSettings settings, EngineFactory factory) : settings_(std::move(settings)) {
  host_ = std::make_unique<EngineHost>(std::move(factory), settings_.host, [this](std::exception_ptr cause) {
    http_->post([this, cause] {
      failure_ = cause;
      http_->stop();
    });
  });
  http_ = std::make_unique<HttpServer>(settings_.http, routes(), hooks());
  http_->every(kWatch, [this] { host_->watch(); });
  http_->every(kDrainTick, [this] { finish_draining(); });
}

Server::~Server() = default;

RouteTable Server::routes() {
  RouteTable routes;
  add_health_routes(routes, *host_);
  return routes;
}

HttpHooks Server::hooks() {
  HttpHooks hooks;
  hooks.authorize = [keys = AccessKeys(settings_.api_keys, settings_.admin_key)](
                        const HttpRequest& request, Access access) { return keys.refusal(request, access); };
  hooks.add_headers = [origin = settings_.allowed_origin](const HttpRequest&, Headers& headers) {
    headers.set("server", std::string("shoal/") + kServerVersion);
    if (origin.empty()) return;
    headers.set("access-control-allow-origin", origin);
    headers.set("access-control-allow-headers", "authorization, content-type");
    headers.set("access-control-expose-headers", "x-request-id, x-ignored-fields, retry-after");
  };
  if (settings_.log_requests) {
    hooks.served = [](const Served& served) {
      spdlog::info("{} {} {} {} {:.1f} ms {} bytes from {}", served.request.id, served.status, served.request.method,
                   served.request.path, served.seconds * 1e3, served.bytes, served.request.remote);
    };
  }
  return hooks;
}

void Server::run() {
  http_->on_signal([this](int times) { on_signal(times); });
  host_->start();
  http_->run();
  if (failure_) std::rethrow_exception(failure_);
}

void Server::stop() {
  http_->post([this] { on_signal(2); });
}

void Server::on_signal(int times) {
  if (times > 1) return http_->stop();
  draining_ = true;
  drain_until_ = std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                                        std::chrono::duration<double>(settings_.drain_seconds));
  host_->drain();
}

void Server::finish_draining() {
  if (draining_) http_->stop();
}

uint16_t Server::port() const { return http_->port(); }

}  // namespace shoal
