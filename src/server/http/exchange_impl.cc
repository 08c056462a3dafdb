// SPDX-License-Identifier: Apache-2.0
#include "server/http/exchange_impl.h"

#include <utility>

#include "server/http/connection.h"

namespace shoal {

ExchangeImpl::ExchangeImpl(std::shared_ptr<HttpServer::Core> core, std::weak_ptr<Connection> connection,
                           HttpRequest request)
    : core_(std::move(core)), connection_(std::move(connection)), request_(std::move(request)) {}

void ExchangeImpl::schedule_locked() {
  if (std::exchange(scheduled_, true)) return;
  core_->post([self = shared_from_this()] { self->flush(); });
}

void ExchangeImpl::reply(HttpReply reply) {
  const std::lock_guard lock(mutex_);
  if (std::exchange(answered_, true) || closed_) return;
  reply_ = std::move(reply);
  schedule_locked();
}

EventStream& ExchangeImpl::stream(Headers headers) {
  const std::lock_guard lock(mutex_);
  if (!std::exchange(answered_, true) && !closed_) {
    begin_ = std::move(headers);
    schedule_locked();
  }
  return *this;
}

bool ExchangeImpl::send(std::string_view data) {
  const std::lock_guard lock(mutex_);
  if (closed_ || ended_) return false;
  const auto most = static_cast<size_t>(core_->settings.max_stream_bytes);
  if (frames_.size() + waiting_ + data.size() > most) {
    ended_ = true;
    core_->post([self = shared_from_this()] {
      if (const auto connection = self->connection_.lock()) connection->close();
    });
    return false;
  }
  frames_.append("data: ").append(data).append("\n\n");
  schedule_locked();
  return true;
}

void ExchangeImpl::close() {
  const std::lock_guard lock(mutex_);
  if (std::exchange(ended_, true) || closed_) return;
  schedule_locked();
}

void ExchangeImpl::on_close(std::function<void()> listener) {
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) {
      listener_ = std::move(listener);
      return;
    }
  }
  listener();
}

void ExchangeImpl::flush() {
  std::optional<HttpReply> reply;
  std::optional<Headers> begin;
  std::string frames;
  bool ended = false;
  {
    const std::lock_guard lock(mutex_);
    scheduled_ = false;
    reply.swap(reply_);
    begin.swap(begin_);
    frames.swap(frames_);
    ended = ended_;
  }
  const auto connection = connection_.lock();
  if (!connection || closed_) return;
  if (reply) return connection->send_reply(*reply);
  if (begin) connection->begin_stream(*begin);
  if (!frames.empty()) connection->send_events(frames);
  if (ended) connection->end_stream();
}

void ExchangeImpl::end() {
  std::function<void()> listener;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    listener.swap(listener_);
  }
  if (listener) listener();
}

}  // namespace shoal
