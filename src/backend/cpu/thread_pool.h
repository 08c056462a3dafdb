// SPDX-License-Identifier: Apache-2.0
// ThreadPool: one rank's compute threads, the calling one included. Idle workers spin briefly, yield, then sleep. Each thread
// has a share of a job, a stretch of its own that it takes from the front in falling pieces; who is done takes from the backs of
// the others' shares (as in guided self-scheduling, Polychronopoulos and Kuck 1987, but with a place of its own for each thread). So a worker
// that the scheduler keeps away holds nobody up, and threads end together. Not for use from two threads at once, nor nested, and
// functions given to it must not throw.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "tensor/dim.h"

namespace shoal {

class ThreadPool {
 public:
  // Pinned to `cores` (thread i to cores[i % size]) if that is not empty; the calling thread is cores[0]'s but is not
  // moved here.
  explicit ThreadPool(int threads, std::vector<int> cores = {});
  // Has no threads, and calls nothing.
  struct Dry {};
  ThreadPool(int threads, Dry) : dry_threads_(threads) {}
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return dry() ? dry_threads_ : static_cast<int>(workers_.size()) + 1; }
  bool dry() const { return dry_threads_ > 0; }

  // The share of [0, n) that `thread` takes from its front; others take of its back once they are done.
  Range share(int64_t n, int64_t grain, int thread) const;

  // Calls fn(begin, end) or fn(begin, end, thread) over ranges that cut [0, n); `thread` is in [0, threads()), for
  // scratch memory. No range is shorter than `grain` but the last; n <= grain runs on the caller. Which thread does
  // what is not fixed: results must not depend on it.
  template <typename Function>
  void parallel_for(int64_t n, int64_t grain, const Function& fn) {
    if (n <= 0 || dry()) return;
    if (grain < 1) grain = 1;
    if (workers_.empty() || n <= grain) return invoke(fn, 0, n, 0);
    run(
        n, grain,
        [](const void* context, int64_t begin, int64_t end, int thread) {
          invoke(*static_cast<const Function*>(context), begin, end, thread);
        },
        &fn);
  }

 private:
  using Call = void (*)(const void* context, int64_t begin, int64_t end, int thread);
  template <typename Function>
  static void invoke(const Function& fn, int64_t begin, int64_t end, int thread) {
    if constexpr (std::is_invocable_v<const Function&, int64_t, int64_t, int>) {
      fn(begin, end, thread);
    } else {
      fn(begin, end);
    }
  }
  // Units [first, end) of a job that are still to be taken, with the job's number: first == end: none.
  struct alignas(64) Share {
    std::atomic<uint64_t> state{0};
  };
  void run(int64_t n, int64_t grain, Call call, const void* context);
  void work(uint32_t job, int thread);
  bool take(Share& share, uint32_t job, bool own, Range& units);
  void wait_done(uint32_t units);
  void worker_main(int thread, int core);

  const int dry_threads_ = 0;
  std::vector<std::thread> workers_;
  std::unique_ptr<Share[]> shares_;  // [threads]
  // The job: written before its shares are filled, and read by those who hold a unit of it.
  Call call_ = nullptr;
  const void* context_ = nullptr;
  int64_t n_ = 0;
  int64_t unit_ = 0;  // elements of a unit
  uint32_t units_ = 0;
  alignas(64) std::atomic<uint32_t> done_{0};  // finished units of the current job
  alignas(64) std::atomic<uint32_t> job_{0};   // workers sleep on this; kStop ends them
};

}  // namespace shoal
