// SPDX-License-Identifier: Apache-2.0
// ExchangeImpl: the exchange as a connection and its handler share it. The handler's side may be used from any thread: what it does is queued
// here and carried out on the I/O thread, one job for any number of frames.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "server/http/core.h"
#include "server/http/exchange.h"

namespace shoal {

class Connection;

class ExchangeImpl final : public Exchange, public EventStream, public std::enable_shared_from_this<ExchangeImpl> {
 public:
  ExchangeImpl(std::shared_ptr<HttpServer::Core> core, std::weak_ptr<Connection> connection, HttpRequest request);

  const HttpRequest& request() const override { return request_; }
  void reply(HttpReply reply) override;
  EventStream& stream(Headers headers) override;
  bool send(std::string_view data) override;
  void close() override;
  bool closed() const override { return closed_; }
  void on_close(std::function<void()> listener) override;

  // By the connection, on the I/O thread: the answer is complete, or the client gone.
  void end();
  // How much still waits to be written.
  void note_waiting(size_t bytes) { waiting_ = bytes; }

 private:
  void flush();
  void schedule_locked();

  const std::shared_ptr<HttpServer::Core> core_;
  const std::weak_ptr<Connection> connection_;
  const HttpRequest request_;
  std::atomic<bool> closed_{false};
  std::atomic<size_t> waiting_{0};  // bytes in the connection's buffers
  std::mutex mutex_;                // for what follows
  bool answered_ = false;
  bool ended_ = false;  // the handler's side of the stream
  bool scheduled_ = false;
  std::optional<HttpReply> reply_;
  std::optional<Headers> begin_;
  std::string frames_;
  std::function<void()> listener_;
};

}  // namespace shoal
