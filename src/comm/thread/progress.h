// SPDX-License-Identifier: Apache-2.0
// Progress: a counter that one thread advances and others wait for, on a cache line of its own. Waiters may park in the kernel (a
// futex on `epoch_`), in which case advancing wakes them; as long as nobody is parked, advancing is one store and one load.
// Not here: how long to spin, yield or park, and time-outs (waiter.h).
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>

namespace shoal {

class alignas(64) Progress {
 public:
  uint64_t value() const { return value_.load(std::memory_order_acquire); }
  bool reached(uint64_t target) const { return value() >= target; }

  // By the owner only.
  void advance(uint64_t value) {
    // Sequentially consistent on both sides: either the owner sees the parked waiter, or the waiter sees the new value.
    value_.store(value);
    if (parked_.load() > 0) wake();
  }

  void wake() {
    epoch_.fetch_add(1);
    syscall(SYS_futex, &epoch_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  }

  // Announces a waiter: between its construction and its end, no advance or wake goes unnoticed by `sleep`.
  class Parked {
   public:
    explicit Parked(Progress& progress) : progress_(progress) {
      progress_.parked_.fetch_add(1);
      epoch_ = progress_.epoch_.load();
    }
    ~Parked() { progress_.parked_.fetch_sub(1); }
    Parked(const Parked&) = delete;
    Parked& operator=(const Parked&) = delete;

    bool reached(uint64_t target) const { return progress_.value_.load() >= target; }

    // Until woken (possibly for nothing) or `longest` has passed.
    void sleep(std::chrono::nanoseconds longest) {
      const timespec time{.tv_sec = longest.count() / 1'000'000'000, .tv_nsec = longest.count() % 1'000'000'000};
      syscall(SYS_futex, &progress_.epoch_, FUTEX_WAIT_PRIVATE, epoch_, &time, nullptr, 0);
    }

   private:
    Progress& progress_;
    uint32_t epoch_;
  };

 private:
  std::atomic<uint64_t> value_{0};
  std::atomic<uint32_t> parked_{0};
  std::atomic<uint32_t> epoch_{0};
};
static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t), "a futex is 32 bits");

}  // namespace shoal
