// SPDX-License-Identifier: Apache-2.0
// HandOver: values from any threads to one, which takes all that are there at once. Neither side takes a lock of its own (the heap has some),
// so a thread of low priority that is suspended in the middle of either does not hold the other up.
#pragma once

#include <atomic>
#include <utility>
#include <vector>

namespace shoal {

template <typename T>
class HandOver {
 public:
  HandOver() = default;
  HandOver(const HandOver&) = delete;
  HandOver& operator=(const HandOver&) = delete;
  ~HandOver() { take(); }

  void push(T value) {
    Node* node = new Node{std::move(value), newest_.load(std::memory_order_relaxed)};
    while (!newest_.compare_exchange_weak(node->next, node, std::memory_order_release, std::memory_order_relaxed)) {
    }
    wake();
  }
  // receive() returns, if with nothing.
  void wake() {
    signals_.fetch_add(1, std::memory_order_release);
    signals_.notify_one();
  }

  // What is there, in the order of the pushes. One thread only, and so receive().
  std::vector<T> take() {
    Node* oldest = nullptr;
    for (Node* node = newest_.exchange(nullptr, std::memory_order_acquire); node;) {
      Node* const older = std::exchange(node->next, oldest);
      oldest = std::exchange(node, older);
    }
    std::vector<T> values;
    while (oldest) {
      values.push_back(std::move(oldest->value));
      delete std::exchange(oldest, oldest->next);
    }
    return values;
  }
  // Sleeps until there has been a push() or wake() since the last call. May be empty: of a push in the middle of a call this one may take the
  // value and the next one hear.
  std::vector<T> receive() {
    signals_.wait(seen_, std::memory_order_acquire);
    seen_ = signals_.load(std::memory_order_acquire);
    return take();
  }

 private:
  struct Node {
    T value;
    Node* next;  // pushed before; in take() after
  };
  std::atomic<Node*> newest_ = nullptr;
  std::atomic<int> signals_ = 0;
  int seen_ = 0;
};

}  // namespace shoal
