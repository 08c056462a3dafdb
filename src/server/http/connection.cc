// SPDX-License-Identifier: Apache-2.0
#include "server/http/connection.h"

#include <fmt/format.h>

#include <utility>

#include "server/errors.h"
#include "server/http/exchange_impl.h"

namespace shoal {
namespace {

using boost::system::error_code;
using Seconds = std::chrono::duration<double>;

constexpr size_t kReadBytes = size_t{16} << 10;
constexpr size_t kMostAhead = size_t{64} << 10;  // read while an answer is being made
constexpr double kBodyBytesPerSecond = 65536;    // a body must come faster than this on average
constexpr double kHandshakeSeconds = 10;
constexpr double kLingerSeconds = 2;  // for the client to read an answer that came before its request's end
constexpr int kClientLeft = 499;

Connection::Clock::time_point after(double seconds) {
  return Connection::Clock::now() + std::chrono::duration_cast<Connection::Clock::duration>(Seconds(seconds));
}

}  // namespace

Connection::Connection(std::shared_ptr<HttpServer::Core> core, std::unique_ptr<Wire> wire, std::string remote)
    : core_(std::move(core)),
      wire_(std::move(wire)),
      remote_(std::move(remote)),
      reader_({.max_header_bytes = core_->settings.max_header_bytes, .max_body_bytes = core_->settings.max_body_bytes}),
      chunk_(kReadBytes, '\0') {
  ++core_->connections;
}

Connection::~Connection() {
  --core_->connections;
  forget_body();
}

void Connection::forget_body() { core_->body_bytes -= std::exchange(held_bytes_, 0); }

void Connection::set_deadline(double seconds) { deadline_ = after(seconds); }
void Connection::clear_deadline() { deadline_ = Clock::time_point::max(); }

void Connection::start() {
  set_deadline(kHandshakeSeconds);
  wire_->handshake([self = shared_from_this()](const error_code& error) {
    if (error) return self->close();
    self->set_deadline(self->core_->settings.header_seconds);
    self->read_more();
  });
}

void Connection::refuse(const HttpReply& reply) {
  set_deadline(kHandshakeSeconds);
  wire_->handshake([self = shared_from_this(), reply](const error_code& error) {
    if (error) return self->close();
    self->early_reply(reply);
  });
}

// --- reading

void Connection::read_more() {
  if (reading_ || state_ == State::kClosed) return;
  if (state_ != State::kLingering && in_.size() > kMostAhead && state_ != State::kReading) return;
  reading_ = true;
  wire_->read_some(boost::asio::buffer(chunk_),
                   [self = shared_from_this()](const error_code& error, size_t bytes) { self->on_read(error, bytes); });
}

void Connection::on_read(const error_code& error, size_t bytes) {
  reading_ = false;
  if (state_ == State::kClosed) return;
  if (error) return close();
  if (state_ != State::kLingering) in_.append(chunk_, 0, bytes);
  if (state_ == State::kReading) return parse();
  read_more();
}

void Connection::parse() {
  using Reader = RequestReader::State;
  while (!in_.empty() && state_ == State::kReading) {
    if (reader_.state() == Reader::kEmpty) {
      begin_ = Clock::now();
      header_taken_ = false;
      set_deadline(core_->settings.header_seconds);
    }
    const size_t used = reader_.put(in_);
    in_.erase(0, used);
    if (reader_.state() == Reader::kFailed) return fail_request(reader_.failed_status(), reader_.failed_text());
    if (reader_.state() >= Reader::kBody && !std::exchange(header_taken_, true) && !on_header()) return;
    if (reader_.state() >= Reader::kBody && !hold_body(used)) return;
    if (reader_.state() == Reader::kDone) return dispatch();
    if (reader_.state() == Reader::kBody)
      deadline_ +=
          std::chrono::duration_cast<Clock::duration>(Seconds(static_cast<double>(used) / kBodyBytesPerSecond));
    if (used == 0) break;
  }
  read_more();
}

// What can be said before the body is read. False: it was refused.
bool Connection::on_header() {
  HttpRequest& request = reader_.request();
  request.remote = remote_;
  request.id = request_id(request.headers.get("x-request-id"));
  chunked_ = !reader_.is_http_1_0();
  keep_alive_ = reader_.keep_alive();
  set_deadline(core_->settings.body_seconds);
  route_ = nullptr;
  try {
    if (request.method == "OPTIONS") return true;
    route_ = &core_->routes.find(request);
    if (core_->hooks.authorize) {
      if (const auto refusal = core_->hooks.authorize(request, route_->access)) {
        early_reply(*refusal);
        return false;
      }
    }
    if (reader_.announced_bytes() > core_->settings.max_body_bytes)
      throw ApiError(413, "body_too_large",
                     fmt::format("the body has {} bytes; this server takes {} at most", reader_.announced_bytes(),
                                 core_->settings.max_body_bytes));
  } catch (...) {
    early_reply(error_reply(current_api_error(), request.id));
    return false;
  }
  if (reader_.wants_continue() && reader_.state() == RequestReader::State::kBody && in_.empty())
    write("HTTP/1.1 100 Continue\r\n\r\n");
  return true;
}

// Bodies of all connections together are bounded too. False: it was refused.
bool Connection::hold_body(size_t bytes) {
  held_bytes_ += static_cast<int64_t>(bytes);
  core_->body_bytes += static_cast<int64_t>(bytes);
  if (core_->body_bytes <= core_->settings.max_held_bytes) return true;
  ApiError error(503, "no_capacity", "the server holds as many bytes of requests as it may");
  error.retry_after = 1;
  early_reply(error_reply(error, reader_.request().id));
  return false;
}

void Connection::fail_request(int status, const std::string& text) {
  HttpRequest& request = reader_.request();
  if (request.id.empty()) request.id = request_id({});
  request.remote = remote_;
  const char* code = "invalid_http";
  if (status == 413) code = "body_too_large";
  if (status == 431) code = "header_too_large";
  if (status == 408) code = "request_timeout";
  early_reply(error_reply(ApiError(status, code, text), request.id));
}

// --- answering

void Connection::dispatch() {
  state_ = State::kAnswering;
  clear_deadline();
  exchange_ = std::make_shared<ExchangeImpl>(core_, weak_from_this(), std::move(reader_.request()));
  if (route_ == nullptr) {  // OPTIONS
    const std::string methods = core_->routes.allowed(exchange_->request().path);
    exchange_->reply({.status = 204, .headers = {{"allow", methods + ", OPTIONS"}}, .content_type = "", .body = {}});
  } else {
    run_handler();
  }
  read_more();
}

void Connection::run_handler() {
  const auto run = [exchange = exchange_, route = route_, core = core_] {
    try {
      route->handler(exchange);
    } catch (...) {
      exchange->reply(error_reply(current_api_error(), exchange->request().id));
    }
  };
  if (route_->run_on == RunOn::kIo) return run();
  core_->post_worker(run);
}

std::string Connection::head(int status, const Headers& headers, const std::string& content_type) {
  const HttpRequest& request = exchange_ ? exchange_->request() : reader_.request();
  Headers all = headers;
  all.set("x-request-id", request.id);
  if (core_->hooks.add_headers) core_->hooks.add_headers(request, all);
  if (!keep_alive_) all.set("connection", "close");
  std::string text = fmt::format("HTTP/1.1 {} {}\r\n", status, status_text(status));
  if (!content_type.empty()) text += "content-type: " + content_type + "\r\n";
  for (const auto& [name, value] : all) text.append(name).append(": ").append(value).append("\r\n");
  return text;
}

void Connection::send_reply(const HttpReply& reply) {
  if (state_ == State::kClosed) return;
  const HttpRequest& request = exchange_ ? exchange_->request() : reader_.request();
  status_ = reply.status;
  std::string text = head(reply.status, reply.headers, reply.content_type);
  if (reply.status != 204) text += fmt::format("content-length: {}\r\n", reply.body.size());
  text += "\r\n";
  if (request.method != "HEAD") {
    text += reply.body;
    body_bytes_ += static_cast<int64_t>(reply.body.size());
  }
  answer_complete_ = true;
  write(text);
}

// An answer before the request's end: what follows of it cannot be told from the next request.
void Connection::early_reply(const HttpReply& reply) {
  state_ = State::kAnswering;
  keep_alive_ = false;
  clear_deadline();
  send_reply(reply);
}

void Connection::begin_stream(const Headers& headers) {
  if (state_ != State::kAnswering) return;
  state_ = State::kStreaming;
  status_ = 200;
  if (!chunked_) keep_alive_ = false;
  Headers all = headers;
  all.set("cache-control", "no-cache");
  all.set("x-accel-buffering", "no");
  if (chunked_) all.set("transfer-encoding", "chunked");
  answer_complete_ = exchange_->request().method == "HEAD";
  write(head(200, all, "text/event-stream") + "\r\n");
}

void Connection::send_events(std::string_view frames) {
  if (state_ != State::kStreaming || answer_complete_) return;
  body_bytes_ += static_cast<int64_t>(frames.size());
  if (!chunked_) return write(frames);
  std::string chunk = fmt::format("{:x}\r\n", frames.size());
  chunk.append(frames).append("\r\n");
  write(chunk);
}

void Connection::end_stream() {
  if (state_ != State::kStreaming || answer_complete_) return;
  answer_complete_ = true;
  write(chunked_ ? "0\r\n\r\n" : "");
}

void Connection::write(std::string_view bytes) {
  out_.append(bytes);
  last_sent_ = Clock::now();
  write_more();
}

void Connection::write_more() {
  if (write_in_flight_ || state_ == State::kClosed) return;
  if (written_ == writing_.size()) {
    if (out_.empty()) {
      write_deadline_ = Clock::time_point::max();
      if (answer_complete_) answered();
      return;
    }
    writing_.clear();
    writing_.swap(out_);
    written_ = 0;
  }
  write_in_flight_ = true;
  write_deadline_ = after(core_->settings.write_seconds);
  wire_->write_some(
      boost::asio::buffer(writing_.data() + written_, writing_.size() - written_),
      [self = shared_from_this()](const error_code& error, size_t bytes) { self->on_written(error, bytes); });
}

void Connection::on_written(const error_code& error, size_t bytes) {
  write_in_flight_ = false;
  if (error) return close();
  written_ += bytes;
  if (exchange_) exchange_->note_waiting(writing_.size() - written_ + out_.size());
  write_more();
}

void Connection::answered() {
  note_served(status_);
  if (exchange_) std::exchange(exchange_, nullptr)->end();
  answer_complete_ = false;
  body_bytes_ = 0;
  forget_body();
  if (!keep_alive_) return linger();
  reader_.reset();
  state_ = State::kReading;
  set_deadline(core_->settings.idle_seconds);
  parse();
}

// A socket closed with unread bytes in it is reset, and the client may lose the answer.
void Connection::linger() {
  state_ = State::kLingering;
  set_deadline(kLingerSeconds);
  wire_->end_writing(shared_from_this());
  read_more();
}

void Connection::note_served(int status) {
  if (!core_->hooks.served) return;
  const HttpRequest& request = exchange_ ? exchange_->request() : reader_.request();
  if (request.id.empty()) return;  // nothing that could be called a request
  core_->hooks.served({.request = request,
                       .route = route_ != nullptr ? route_->path : std::string(),
                       .status = status,
                       .seconds = Seconds(Clock::now() - begin_).count(),
                       .bytes = body_bytes_});
}

// --- time and end

void Connection::check_time(Clock::time_point now) {
  if (now >= write_deadline_) return close();
  if (now >= deadline_) {
    const bool begun =
        reader_.state() == RequestReader::State::kHeader || reader_.state() == RequestReader::State::kBody;
    if (state_ != State::kReading || !begun) return close();
    return fail_request(408, "the request did not come to its end in time");
  }
  if (state_ == State::kStreaming && !answer_complete_ && now - last_sent_ >= Seconds(core_->settings.ping_seconds))
    send_events(": ping\n\n");
}

void Connection::close() {
  if (state_ == State::kClosed) return;
  const auto self = shared_from_this();
  if (exchange_) note_served(kClientLeft);
  state_ = State::kClosed;
  wire_->close();
  if (exchange_) std::exchange(exchange_, nullptr)->end();
  core_->forget(self);
}

}  // namespace shoal
