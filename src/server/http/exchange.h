// SPDX-License-Identifier: Apache-2.0
// One request and its answer: either one reply, or an event stream. All methods may be called from any thread, and cost no more than a
// queue's lock; nothing waits for the client. Invariants: the first of reply() and stream() counts, later ones do nothing; what is sent after
// the client has gone is dropped.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "server/http/message.h"

namespace shoal {

// Server-sent events. A client that reads too slowly (HttpSettings::max_stream_bytes wait for it) counts as gone; one to which nothing was
// sent for HttpSettings::ping_seconds gets a comment line.
class EventStream {
 public:
  virtual ~EventStream() = default;
  // One frame "data: <data>\n\n"; `data` holds no line feed. False if the client is gone.
  virtual bool send(std::string_view data) = 0;
  // Ends the stream after what was sent. Nothing more may be sent.
  virtual void close() = 0;
  virtual bool closed() const = 0;
  // Called once when the stream has ended, whoever ended it: on the I/O thread, or here if it has already.
  virtual void on_close(std::function<void()> listener) = 0;
};

class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;
  virtual void reply(HttpReply reply) = 0;
  // Sends status 200 and these headers, and hands out the stream. The stream lives as long as the exchange.
  virtual EventStream& stream(Headers headers = {}) = 0;
  // The client is gone, or has its whole answer.
  virtual bool closed() const = 0;
  // As EventStream::on_close, for either kind of answer; one listener.
  virtual void on_close(std::function<void()> listener) = 0;
};

}  // namespace shoal
