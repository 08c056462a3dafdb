// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/http_client.h"

#include <fmt/format.h>

#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <limits>
#include <optional>

#include "base/error.h"
#include "base/json_file.h"

namespace shoal::bench {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Clock = std::chrono::steady_clock;

constexpr int kHttp11 = 11;
constexpr uint32_t kMostHeaderBytes = 64 << 10;

Clock::duration duration_of(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

using PlainStream = beast::tcp_stream;
using TlsStream = asio::ssl::stream<beast::tcp_stream>;

struct Connection {
  beast::tcp_stream& socket() { return plain ? *plain : tls->next_layer(); }

  std::optional<PlainStream> plain;  // one of the two
  std::optional<TlsStream> tls;
  beast::flat_buffer buffer;
};

// Why an exchange failed, and whether anything of an answer had come.
struct Failure {
  std::string text;
  bool answered = false;
};

std::string reason(const boost::system::system_error& error, double timeout_s) {
  if (error.code() == beast::error::timeout) return fmt::format("no data for {} s", timeout_s);
  if (error.code() == http::error::end_of_stream || error.code() == http::error::partial_message ||
      error.code() == asio::ssl::error::stream_truncated)
    return "the server closed the connection before the answer was complete";
  const bool of_tls = error.code().category() == asio::error::get_ssl_category();
  const int tls_reason = of_tls ? ERR_GET_REASON(error.code().value()) : 0;
  if (tls_reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
    return "the server's certificate is not trusted here, or not for this host; --insecure measures all the same";
  if (tls_reason == SSL_R_WRONG_VERSION_NUMBER) return "the server does not speak TLS there; write http://";
  return error.code().message();
}

asio::ssl::context tls_context(bool verify) {
  asio::ssl::context context(asio::ssl::context::tls_client);
  boost::system::error_code ignored;  // without a store nothing is trusted, and the handshake says so
  context.set_default_verify_paths(ignored);
  context.set_verify_mode(verify ? asio::ssl::verify_peer : asio::ssl::verify_none);
  return context;
}

}  // namespace

ServerAddress parse_base_url(const std::string& url) {
  const auto wrong = [&](const char* what) {
    return Error(ErrorKind::kInvalid,
                 fmt::format("{} is no base URL: {}; write http://host:port", printable(url), what));
  };
  ServerAddress address;
  address.tls = url.starts_with("https://");
  if (!address.tls && !url.starts_with("http://")) throw wrong("it does not begin with http:// or https://");
  const std::string rest = url.substr(url.find("//") + 2);
  const size_t slash = rest.find('/');
  const std::string authority = rest.substr(0, slash);
  if (slash != std::string::npos) address.path = rest.substr(slash);
  while (address.path.ends_with('/')) address.path.pop_back();
  const size_t bracket = authority.find(']');
  const size_t colon = authority.find(':', bracket == std::string::npos ? 0 : bracket);
  address.host = authority.substr(0, colon);
  if (address.host.starts_with('[') && address.host.ends_with(']'))
    address.host = address.host.substr(1, address.host.size() - 2);
  address.port = colon == std::string::npos ? (address.tls ? "443" : "80") : authority.substr(colon + 1);
  if (address.host.empty()) throw wrong("it names no host");
  const bool digits = !address.port.empty() && address.port.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || address.port.size() > 5 || std::stoi(address.port) > 65535 || std::stoi(address.port) == 0)
    throw wrong("the port must be from 1 to 65535");
  return address;
}

struct HttpClient::Loop {
  Loop(ServerAddress to, HttpHeaders with, double timeout)
      : address(std::move(to)), headers(std::move(with)), timeout_s(timeout) {
    if (address.tls) tls.emplace(tls_context(address.verify));
  }

  asio::awaitable<std::unique_ptr<Connection>> connect() {
    auto connection = std::make_unique<Connection>();
    if (tls) {
      connection->tls.emplace(io, *tls);
    } else {
      connection->plain.emplace(io);
    }
    if (endpoints.empty()) {
      asio::ip::tcp::resolver resolver(io);
      endpoints = co_await resolver.async_resolve(address.host, address.port, asio::use_awaitable);
    }
    connection->socket().expires_after(duration_of(timeout_s));
    co_await connection->socket().async_connect(endpoints, asio::use_awaitable);
    connection->socket().socket().set_option(asio::ip::tcp::no_delay(true));
    if (tls) {
      SSL_set_tlsext_host_name(connection->tls->native_handle(), address.host.c_str());
      if (address.verify) connection->tls->set_verify_callback(asio::ssl::host_name_verification(address.host));
      co_await connection->tls->async_handshake(asio::ssl::stream_base::client, asio::use_awaitable);
    }
    co_return connection;
  }

  http::request<http::string_body> request_of(const HttpCall& call) const {
    http::request<http::string_body> request(http::string_to_verb(call.method), address.path + call.target, kHttp11);
    const bool is_v6 = address.host.find(':') != std::string::npos;
    request.set(http::field::host, fmt::format("{}:{}", is_v6 ? "[" + address.host + "]" : address.host, address.port));
    request.set(http::field::user_agent, "shoal-bench");
    if (!call.body.empty()) request.set(http::field::content_type, "application/json");
    for (const auto& [name, value] : headers) request.set(name, value);
    for (const auto& [name, value] : call.headers) request.set(name, value);
    request.body() = call.body;
    request.prepare_payload();
    return request;
  }

  // Sends and reads on one connection; `answered` tells whether the first byte came. True: the connection can be used again.
  template <typename Stream>
  asio::awaitable<bool> exchange(Connection& connection, Stream& stream, const HttpCall& call, const HttpSink& sink,
                                 bool& answered) {
    const auto request = request_of(call);
    connection.socket().expires_after(duration_of(timeout_s));
    co_await http::async_write(stream, request, asio::use_awaitable);
    http::response_parser<http::string_body> parser;
    parser.body_limit(std::numeric_limits<uint64_t>::max());
    parser.header_limit(kMostHeaderBytes);
    parser.eager(false);  // else what follows a chunk is waited for before the chunk is handed on
    while (!parser.is_done()) {
      connection.socket().expires_after(duration_of(timeout_s));
      const bool had_header = parser.is_header_done();
      co_await http::async_read_some(stream, connection.buffer, parser, asio::use_awaitable);
      answered = true;
      if (!had_header && parser.is_header_done() && sink.on_status) sink.on_status(parser.get().result_int());
      std::string& body = parser.get().body();
      if (!body.empty() && sink.on_body) sink.on_body(body);
      body.clear();
    }
    connection.socket().expires_never();
    co_return parser.get().keep_alive();
  }

  // A kept connection may have been closed by the server meanwhile: then a new one is tried.
  asio::awaitable<void> perform(HttpCall call, HttpSink sink) {
    std::string error = "the server closed the connection";
    for (bool again = true; again;) {
      again = false;
      bool answered = false, kept = !idle.empty();
      try {
        std::unique_ptr<Connection> connection;
        if (kept) {
          connection = std::move(idle.back());
          idle.pop_back();
        } else {
          connection = co_await connect();
        }
        const bool reusable = connection->tls
                                  ? co_await exchange(*connection, *connection->tls, call, sink, answered)
                                  : co_await exchange(*connection, *connection->plain, call, sink, answered);
        if (reusable) idle.push_back(std::move(connection));
        error.clear();
      } catch (const boost::system::system_error& failure) {
        error = reason(failure, timeout_s);
        again = kept && !answered;
      }
    }
    sink.on_end(error);
  }

  ServerAddress address;
  HttpHeaders headers;
  double timeout_s;
  asio::io_context io{1};
  std::optional<asio::ssl::context> tls;
  asio::ip::tcp::resolver::results_type endpoints;
  std::vector<std::unique_ptr<Connection>> idle;
};

HttpClient::HttpClient(ServerAddress address, HttpHeaders headers, double timeout_s)
    : loop_(std::make_unique<Loop>(std::move(address), std::move(headers), timeout_s)) {}

HttpClient::~HttpClient() = default;

void HttpClient::start(HttpCall call, HttpSink sink) {
  asio::co_spawn(loop_->io, loop_->perform(std::move(call), std::move(sink)), asio::detached);
}

void HttpClient::after(double seconds, std::function<void()> task) {
  auto timer = std::make_shared<asio::steady_timer>(loop_->io, duration_of(seconds));
  timer->async_wait([timer, task = std::move(task)](const boost::system::error_code& error) {
    if (!error) task();
  });
}

void HttpClient::run() {
  loop_->io.restart();
  loop_->io.run();
}

HttpAnswer HttpClient::get(const std::string& target) {
  HttpAnswer answer;
  start({.method = "GET", .target = target}, {.on_status = [&](int status) { answer.status = status; },
                                              .on_body = [&](std::string_view bytes) { answer.body += bytes; },
                                              .on_end = [&](const std::string& error) { answer.error = error; }});
  run();
  return answer;
}

HttpAnswer HttpClient::post(const std::string& target, const std::string& body) {
  HttpAnswer answer;
  start({.method = "POST", .target = target, .body = body},
        {.on_status = [&](int status) { answer.status = status; },
         .on_body = [&](std::string_view bytes) { answer.body += bytes; },
         .on_end = [&](const std::string& error) { answer.error = error; }});
  run();
  return answer;
}

}  // namespace shoal::bench
