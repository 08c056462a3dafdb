// SPDX-License-Identifier: Apache-2.0
// HttpServer::Core: what connections share: the I/O context, settings, routes and hooks. It outlives the server while an exchange is still
// held elsewhere; jobs posted after the end are dropped. Includes Boost.Asio: for the .cc files of this folder only.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

#include "server/http/http_server.h"

namespace shoal {

class Connection;

class HttpServer::Core : public std::enable_shared_from_this<HttpServer::Core> {
 public:
  Core(HttpSettings settings, RouteTable routes, HttpHooks hooks);
  ~Core();

  void run();
  void stop();
  void post(std::function<void()> job);
  void post_worker(std::function<void()> job);
  void every(std::chrono::milliseconds interval, const std::function<void()>& job);
  void on_signal(std::function<void(int times)> listener);
  void on_hangup(std::function<void()> listener);
  void reload_tls();
  uint16_t port() const { return port_; }

  void forget(const std::shared_ptr<Connection>& connection);

  const HttpSettings settings;
  const RouteTable routes;
  const HttpHooks hooks;
  std::atomic<int64_t> connections{0};
  std::atomic<int64_t> body_bytes{0};  // of requests that are being read or answered

 private:
  using tcp = boost::asio::ip::tcp;  // NOLINT(readability-identifier-naming): Asio's own name
  struct Tls;
  void bind();
  void accept();
  void accepted(tcp::socket socket);
  void wait_for_signal();
  void wait_for_hangup();
  void close_all();

  std::unique_ptr<Tls> tls_;                           // null: plain HTTP
  std::mutex mutex_;                                   // for io_ as posted to from outside
  std::unique_ptr<boost::asio::io_context> io_;        // null after the end
  std::unique_ptr<boost::asio::thread_pool> workers_;  // null after the end
  std::unique_ptr<tcp::acceptor> acceptor_;
  std::unique_ptr<boost::asio::signal_set> signals_, hangups_;
  std::function<void(int)> signal_listener_;
  std::function<void()> hangup_listener_;
  int signals_seen_ = 0;
  uint16_t port_ = 0;
  std::set<std::shared_ptr<Connection>> open_;
};

}  // namespace shoal
