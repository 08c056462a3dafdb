// SPDX-License-Identifier: Apache-2.0
// BackgroundThread: work that nobody waits for, on a thread that gets what the others leave: its priority is lowered, and whoever posts takes no
// lock that it could hold. Destroying it drops what is queued and waits for the item that is being worked on.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "base/hand_over.h"

namespace shoal {

template <typename T>
class BackgroundThread {
 public:
  // `work` gets all that was posted meanwhile, in order, at least one item, and should look at `stopping` now and then. It must not throw.
  using Work = std::function<void(std::vector<T>, const std::atomic<bool>& stopping)>;

  explicit BackgroundThread(Work work) : work_(std::move(work)), thread_([this] { run(); }) {}
  ~BackgroundThread() {
    stopping_ = true;
    inbox_.wake();
    thread_.join();
  }

  void post(T item) { inbox_.push(std::move(item)); }

 private:
  // Nice 10 has a ninth of a normal thread's share of a core that both want.
  static constexpr int kNice = 10;

  void run() {
    setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);  // without it the work is done all the same
    while (true) {
      std::vector<T> items = inbox_.receive();
      if (stopping_) return;
      if (!items.empty()) work_(std::move(items), stopping_);
    }
  }

  Work work_;
  HandOver<T> inbox_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace shoal
