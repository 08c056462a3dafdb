// SPDX-License-Identifier: Apache-2.0
// Mailbox: messages from any threads to one, in order; the receiver sleeps while there are none. After close() nothing more is
// delivered: what is queued is destroyed, and the receiver gets nullopt.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>

namespace shoal {

template <typename T>
class Mailbox {
 public:
  void post(T message) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return;
      messages_.push_back(std::move(message));
    }
    changed_.notify_one();
  }
  std::optional<T> receive() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || !messages_.empty(); });
    if (closed_) return std::nullopt;
    std::optional<T> message(std::move(messages_.front()));
    messages_.pop_front();
    return message;
  }
  void close() {
    std::deque<T> dropped;
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      dropped.swap(messages_);
    }
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> messages_;
  bool closed_ = false;
};

}  // namespace shoal
