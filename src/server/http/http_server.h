// SPDX-License-Identifier: Apache-2.0
// HttpServer: one thread that accepts, reads, writes and times every connection (HTTP/1.1, optionally TLS), and a few workers for handlers
// that compute. Hundreds of event streams cost one buffer each, no thread. Every wait for a client has a time-out.
// Not here: what the routes answer. Boost.Asio stays inside the .cc files.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/http/exchange.h"
#include "server/http/routes.h"

namespace shoal {

struct HttpSettings {
  std::string host = "127.0.0.1";
  int64_t port = 8000;  // 0: any free one
  int64_t workers = 2;
  int64_t max_connections = 4096;
  int64_t max_header_bytes = int64_t{16} << 10;
  int64_t max_body_bytes = int64_t{16} << 20;
  int64_t max_held_bytes = int64_t{1} << 30;    // of all requests that are being read or answered
  int64_t max_stream_bytes = int64_t{4} << 20;  // that wait for a slow reader
  double header_seconds = 10;                   // from the first byte of a request to the end of its header
  double body_seconds = 30;                     // to the end of its body, and 1 more for each 64 KiB announced
  double idle_seconds = 75;                     // between requests
  double write_seconds = 60;                    // in which a client must take something of its answer
  double ping_seconds = 15;                     // of silence in an event stream
  std::string tls_cert, tls_key;                // PEM files; empty: no TLS
};

// What became of a request; for the access log and metrics.
struct Served {
  const HttpRequest& request;
  const std::string& route;  // its path as registered; empty: none
  int status = 0;            // 499: the client left first
  double seconds = 0;
  int64_t bytes = 0;  // of the answer's body
};

// All on the I/O thread.
struct HttpHooks {
  // Before the body is read: the answer if the request may not go on.
  std::function<std::optional<HttpReply>(const HttpRequest&, Access)> authorize;
  // Added to every reply.
  std::function<void(const HttpRequest&, Headers&)> add_headers;
  std::function<void(const Served&)> served;
};

class HttpServer {
 public:
  // Binds and listens; nothing is answered before run(). Throws Error if the address is taken or a file is unfit.
  HttpServer(HttpSettings settings, RouteTable routes, HttpHooks hooks);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;

  uint16_t port() const;
  // The calling thread becomes the I/O thread until stop().
  void run();

  // From here on: from any thread.
  void stop();
  void post(std::function<void()> job);         // on the I/O thread
  void post_worker(std::function<void()> job);  // on a worker
  // Before run(): again and again on the I/O thread.
  void every(std::chrono::milliseconds interval, const std::function<void()>& job);
  // Before run(): on the I/O thread when the process gets SIGINT or SIGTERM, with how often it has by now.
  void on_signal(std::function<void(int times)> listener);
  // Before run(): on the I/O thread when the process gets SIGHUP, of which it no longer dies.
  void on_hangup(std::function<void()> listener);
  // On the I/O thread: connections from now on use what the certificate's files hold now. Throws Error, and changes nothing, if that is unfit.
  void reload_tls();
  int64_t connections() const;

  class Core;  // for connection.h

 private:
  std::shared_ptr<Core> core_;
};

}  // namespace shoal
