// SPDX-License-Identifier: Apache-2.0
#include "server/server.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/version.h"
#include "server/dashboard.h"
#include "server/errors.h"
#include "server/health.h"

namespace shoal {
namespace {

constexpr auto kWatch = std::chrono::milliseconds(500);
constexpr auto kDrainTick = std::chrono::milliseconds(50);
constexpr auto kCutShort = std::chrono::seconds(2);  // for those that the drain's end cuts off to be told so

ApiError shutting_down() {
  ApiError error(503, "draining", "the server is shutting down, and the request took longer than --drain-timeout");
  error.retry_after = 5;
  return error;
}

}  // namespace

Server::Server(ServerSettings settings, EngineFactory factory)
    : settings_(std::move(settings)), log_(settings_.log_json), access_(read_access()) {
  host_ = std::make_unique<EngineHost>(
      [this, factory = std::move(factory)](const EngineHooks& hooks) { return make_engine(factory, hooks); },
      settings_.host,
      [this](const std::exception_ptr& cause) {
        http_->post([this, cause] {
          failure_ = cause;
          http_->stop();
        });
      });
  monitor_ = std::make_unique<Monitor>(*host_, metrics_,
                                       MonitorSettings{.model = settings_.api.model_names.front(),
                                                       .version = kVersion,
                                                       .stall_seconds = settings_.host.stall_seconds});
  host_->listen([this](const HostStatus& status) { note_change(status); });
  api_ = std::make_unique<Api>(*host_, metrics_, settings_.api);
  admin_ = std::make_unique<AdminRoutes>(*host_, settings_.api.model_names.front(), settings_.effective);
  http_ = std::make_unique<HttpServer>(settings_.http, routes(), hooks());
  api_->connect(*http_);
  http_->every(kWatch, [this] { host_->watch(); });
  http_->every(kDrainTick, [this] { finish_draining(); });
}

// The engine's callbacks use the sessions, and these the HTTP server: the host goes first.
Server::~Server() {
  monitor_.reset();
  host_.reset();
}

std::unique_ptr<Engine> Server::make_engine(const EngineFactory& factory, EngineHooks hooks) {
  if (!api_->model()) api_->set_model(load_model_text(settings_.api.model_dir, settings_.generation_config));
  hooks.tokenizer = api_->model()->tokenizer;
  return factory(hooks);
}

RouteTable Server::routes() {
  RouteTable routes;
  add_health_routes(routes, *host_);
  api_->add_routes(routes);
  admin_->add_routes(routes);
  monitor_->add_routes(routes);
  add_dashboard_routes(routes, settings_.ui_folder);
  return routes;
}

HttpHooks Server::hooks() {
  HttpHooks hooks;
  hooks.authorize = [this](const HttpRequest& request, Access access) { return access_.refusal(request, access); };
  hooks.add_headers = [origin = settings_.allowed_origin](const HttpRequest&, Headers& headers) {
    headers.set("server", std::string("shoal/") + kVersion);
    if (origin.empty()) return;
    headers.set("access-control-allow-origin", origin);
    headers.set("access-control-allow-headers", "authorization, content-type, x-request-id");
    headers.set("access-control-allow-methods", "GET, POST, DELETE, OPTIONS");
    headers.set("access-control-expose-headers", "x-request-id, x-ignored-fields, retry-after");
  };
  hooks.served = [this](const Served& served) {
    metrics_.http_request(served.request.method, served.route, served.status, served.seconds);
    if (!settings_.log_requests) return;
    log_.info("served", {{"request_id", served.request.id},
                         {"status", served.status},
                         {"method", served.request.method},
                         {"path", served.request.path},
                         {"ms", std::round(served.seconds * 1e4) / 10},
                         {"bytes", served.bytes},
                         {"remote", served.request.remote}});
  };
  return hooks;
}

AccessKeys Server::read_access() const {
  std::vector<std::string> keys = settings_.api_keys;
  if (!settings_.api_key_file.empty())
    for (std::string& key : read_key_file(settings_.api_key_file)) keys.push_back(std::move(key));
  return {std::move(keys), settings_.admin_key};
}

// All of it or nothing. Requests that run, and connections that are open, go on.
void Server::reload() {
  try {
    AccessKeys access = read_access();
    http_->reload_tls();
    access_ = std::move(access);
    log_.info("reloaded", {{"api_key_file", settings_.api_key_file}, {"tls_cert", settings_.http.tls_cert}});
  } catch (const Error& error) {
    log_.warn("not reloaded", {{"cause", error.what()}, {"in_use", "what was loaded before"}});
  }
}

// Once for each state and each stall.
void Server::note_change(const HostStatus& status) {
  const std::lock_guard lock(told_mutex_);
  const std::string state = host_state_name(status.state);
  if (status.stall != told_stall_ && !status.stall.empty()) log_.warn("stalled", {{"what", status.stall}});
  told_stall_ = status.stall;
  if (state == told_state_) return;
  told_state_ = state;
  if (status.state == HostState::kFailed) return log_.warn("failed", {{"cause", status.failure}});
  log_.info(state, {{"restarts", status.restarts}});
}

void Server::run() {
  http_->on_signal([this](int times) { on_signal(times); });
  const bool can_reload = !settings_.api_key_file.empty() || !settings_.http.tls_cert.empty();
  if (can_reload) http_->on_hangup([this] { reload(); });
  monitor_->start();
  host_->start();
  http_->run();
  if (failure_) std::rethrow_exception(failure_);
}

void Server::drain() {
  http_->post([this] { on_signal(1); });
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
  if (!draining_) return;
  const auto now = std::chrono::steady_clock::now();
  if (api_->unanswered() == 0 || now > drain_until_ + kCutShort) return http_->stop();
  if (now < drain_until_ || std::exchange(cut_short_, true)) return;
  for (const auto& session : api_->sessions().all()) session->cancel(shutting_down());
}

}  // namespace shoal
