// SPDX-License-Identifier: Apache-2.0
#include "server/http/http_server.h"

#include <fmt/format.h>

#include <pthread.h>

#include <csignal>
#include <thread>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>

#include "base/error.h"
#include "server/errors.h"
#include "server/http/connection.h"

namespace shoal {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr int kBacklog = 1024;
constexpr auto kTick = std::chrono::milliseconds(200);
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

void tick_every(const std::shared_ptr<asio::steady_timer>& timer, std::chrono::milliseconds interval,
                const std::function<void()>& job) {
  timer->expires_after(interval);
  timer->async_wait([timer, interval, job](const error_code& error) {
    if (error) return;
    job();
    tick_every(timer, interval, job);
  });
}

std::string address_text(const asio::ip::tcp::socket& socket) {
  error_code error;
  const auto end = socket.remote_endpoint(error);
  return error ? "unknown" : fmt::format("{}:{}", end.address().to_string(), end.port());
}

}  // namespace

struct HttpServer::Core::Tls {
  asio::ssl::context context{asio::ssl::context::tls_server};
};

HttpServer::Core::Core(HttpSettings wanted, RouteTable table, HttpHooks calls)
    : settings(std::move(wanted)),
      routes(std::move(table)),
      hooks(std::move(calls)),
      io_(std::make_unique<asio::io_context>(1)),
      workers_(std::make_unique<asio::thread_pool>(static_cast<size_t>(settings.workers))) {
  reload_tls();
  bind();
}

HttpServer::Core::~Core() = default;

// Connections hold on to the context that they began with.
void HttpServer::Core::reload_tls() {
  if (settings.tls_cert.empty()) return;
  auto tls = std::make_unique<Tls>();
  tls->context.set_options(asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1);
  error_code error;
  tls->context.use_certificate_chain_file(settings.tls_cert, error);
  if (error)
    throw Error(ErrorKind::kInvalid, fmt::format("--tls-cert {}: {}; it must be a PEM file of certificates",
                                                 settings.tls_cert, error.message()));
  tls->context.use_private_key_file(settings.tls_key, asio::ssl::context::pem, error);
  if (error)
    throw Error(ErrorKind::kInvalid, fmt::format("--tls-key {}: {}; it must be the PEM file of the certificate's key",
                                                 settings.tls_key, error.message()));
  tls_ = std::move(tls);
}

void HttpServer::Core::bind() {
  const std::string where = fmt::format("{}:{}", settings.host, settings.port);
  const auto fail = [&](const error_code& error) {
    throw Error(ErrorKind::kInvalid,
                fmt::format("cannot listen on {}: {}; choose another --host or --port", where, error.message()));
  };
  error_code error;
  tcp::resolver resolver(*io_);
  const auto found = resolver.resolve(settings.host, std::to_string(settings.port), tcp::resolver::passive, error);
  if (error) fail(error);
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor_ = std::make_unique<tcp::acceptor>(*io_);
  acceptor_->open(endpoint.protocol(), error);
  if (!error) acceptor_->set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_->bind(endpoint, error);
  if (!error) acceptor_->listen(kBacklog, error);
  if (error) fail(error);
  port_ = acceptor_->local_endpoint().port();
}

void HttpServer::Core::accept() {
  acceptor_->async_accept([this](const error_code& error, tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (!error) {
      accepted(std::move(socket));
      return accept();
    }
    const auto timer = std::make_shared<asio::steady_timer>(*io_, kAcceptPause);  // such as: no file descriptors left
    timer->async_wait([this, timer](const error_code& stopped) {
      if (!stopped) accept();
    });
  });
}

void HttpServer::Core::accepted(tcp::socket socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  const std::string remote = address_text(socket);
  auto wire = tls_ ? tls_wire(std::move(socket), tls_->context) : plain_wire(std::move(socket));
  const bool full = connections >= settings.max_connections;
  const auto connection = std::make_shared<Connection>(shared_from_this(), std::move(wire), remote);
  open_.insert(connection);
  if (!full) return connection->start();
  ApiError error(503, "no_capacity", fmt::format("{} connections are open, the most allowed", connections - 1));
  error.retry_after = 1;
  connection->refuse(error_reply(error, {}));
}

void HttpServer::Core::forget(const std::shared_ptr<Connection>& connection) { open_.erase(connection); }

void HttpServer::Core::wait_for_signal() {
  signals_->async_wait([this](const error_code& error, int) {
    if (error) return;
    signal_listener_(++signals_seen_);
    wait_for_signal();
  });
}

void HttpServer::Core::on_signal(std::function<void(int)> listener) {
  signal_listener_ = std::move(listener);
  signals_ = std::make_unique<asio::signal_set>(*io_, SIGINT, SIGTERM);
  wait_for_signal();
}

void HttpServer::Core::wait_for_hangup() {
  hangups_->async_wait([this](const error_code& error, int) {
    if (error) return;
    hangup_listener_();
    wait_for_hangup();
  });
}

void HttpServer::Core::on_hangup(std::function<void()> listener) {
  hangup_listener_ = std::move(listener);
  hangups_ = std::make_unique<asio::signal_set>(*io_, SIGHUP);
  wait_for_hangup();
}

void HttpServer::Core::every(std::chrono::milliseconds interval, const std::function<void()>& job) {
  tick_every(std::make_shared<asio::steady_timer>(*io_), interval, job);
}

void HttpServer::Core::run() {
  accept();
  every(kTick, [this] {
    const auto now = Connection::Clock::now();
    for (const auto& connection : std::vector(open_.begin(), open_.end())) connection->check_time(now);
  });
  io_->run();
  close_all();
}

void HttpServer::Core::close_all() {
  for (const auto& connection : std::vector(open_.begin(), open_.end())) connection->close();
  workers_->join();
  acceptor_.reset();
  signals_.reset();
  hangups_.reset();
  std::unique_ptr<asio::io_context> io;
  {
    const std::lock_guard lock(mutex_);
    io.swap(io_);
  }
}

void HttpServer::Core::stop() {
  const std::lock_guard lock(mutex_);
  if (io_) io_->stop();
}

void HttpServer::Core::post(std::function<void()> job) {
  const std::lock_guard lock(mutex_);
  if (io_) asio::post(*io_, std::move(job));
}

void HttpServer::Core::post_worker(std::function<void()> job) {
  asio::post(*workers_, [job = std::move(job)] {
    thread_local const int named = pthread_setname_np(pthread_self(), "http-worker");  // for top and the like
    static_cast<void>(named);
    job();
  });
}

HttpServer::HttpServer(HttpSettings settings, RouteTable routes, HttpHooks hooks)
    : core_(std::make_shared<Core>(std::move(settings), std::move(routes), std::move(hooks))) {}
HttpServer::~HttpServer() = default;

uint16_t HttpServer::port() const { return core_->port(); }
void HttpServer::run() { core_->run(); }
void HttpServer::stop() { core_->stop(); }
void HttpServer::post(std::function<void()> job) { core_->post(std::move(job)); }
void HttpServer::post_worker(std::function<void()> job) { core_->post_worker(std::move(job)); }
void HttpServer::every(std::chrono::milliseconds interval, const std::function<void()>& job) {
  core_->every(interval, job);
}
void HttpServer::on_signal(std::function<void(int)> listener) { core_->on_signal(std::move(listener)); }
void HttpServer::on_hangup(std::function<void()> listener) { core_->on_hangup(std::move(listener)); }
void HttpServer::reload_tls() { core_->reload_tls(); }
int64_t HttpServer::connections() const { return core_->connections; }

}  // namespace shoal
