// SPDX-License-Identifier: Apache-2.0
// Connection: one client's socket: its requests one after the other, each answered by a reply or an event stream; while an answer is being
// made it goes on reading, so that a client that leaves is noticed at once. All of it on the I/O thread.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <string>

#include "server/http/core.h"
#include "server/http/request_reader.h"
#include "server/http/wire.h"

namespace shoal {

class ExchangeImpl;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Clock = std::chrono::steady_clock;

  Connection(std::shared_ptr<HttpServer::Core> core, std::unique_ptr<Wire> wire, std::string remote);
  ~Connection();

  void start();
  // Answers and closes, whatever the client may send.
  void refuse(const HttpReply& reply);
  // Called several times a second: closes what took too long, pings silent streams.
  void check_time(Clock::time_point now);
  void close();

  // Of the current exchange.
  void send_reply(const HttpReply& reply);
  void begin_stream(const Headers& headers);
  void send_events(std::string_view frames);
  void end_stream();

 private:
  enum class State : uint8_t { kReading, kAnswering, kStreaming, kLingering, kClosed };

  void read_more();
  void on_read(const boost::system::error_code& error, size_t bytes);
  void parse();
  bool on_header();
  bool hold_body(size_t bytes);
  void forget_body();
  void dispatch();
  void run_handler();
  void fail_request(int status, const std::string& text);
  void early_reply(const HttpReply& reply);
  void write(std::string_view bytes);
  void write_more();
  void on_written(const boost::system::error_code& error, size_t bytes);
  void answered();
  std::string head(int status, const Headers& headers, const std::string& content_type);
  void note_served(int status);
  void linger();
  void set_deadline(double seconds);
  void clear_deadline();

  std::shared_ptr<HttpServer::Core> core_;
  std::unique_ptr<Wire> wire_;
  std::string remote_;
  RequestReader reader_;
  State state_ = State::kReading;
  std::string chunk_;    // being read into
  std::string in_;       // read and not parsed
  std::string out_;      // to be written
  std::string writing_;  // being written, from written_ on
  size_t written_ = 0;
  bool reading_ = false;
  bool write_in_flight_ = false;
  bool answer_complete_ = false;
  bool keep_alive_ = true;
  bool chunked_ = true;
  bool header_taken_ = false;
  int status_ = 0;
  int64_t body_bytes_ = 0;  // of the answer
  int64_t held_bytes_ = 0;  // of the request
  const Route* route_ = nullptr;
  std::shared_ptr<ExchangeImpl> exchange_;
  Clock::time_point begin_, last_sent_;
  Clock::time_point deadline_ = Clock::time_point::max();
  Clock::time_point write_deadline_ = Clock::time_point::max();
};

}  // namespace shoal
