// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace shoal {
namespace {

constexpr uint32_t kStop = ~uint32_t{0};
constexpr uint32_t kClosed = ~uint32_t{0};  // in place of the next chunk: none to take
// Chunks per thread: enough that a thread which lost its core leaves little undone, few enough that each reads a long
// stretch.
constexpr int64_t kChunksPerThread = 4;
constexpr int kSpins = 400;  // some 10 us
constexpr int kYields = 60;  // some 20 us on a free core; on a busy one, the others' turns

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Waits until value differs from `last`: spins, yields, then sleeps.
uint32_t wait_change(std::atomic<uint32_t>& value, uint32_t last) {
  for (int i = 0; i < kSpins; ++i) {
    const uint32_t now = value.load(std::memory_order_acquire);
    if (now != last) return now;
    relax();
  }
  for (int i = 0; i < kYields; ++i) {
    const uint32_t now = value.load(std::memory_order_acquire);
    if (now != last) return now;
    sched_yield();
  }
  value.wait(last, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

void pin_to(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);  // a core that is not ours to use: stay unpinned
}

}  // namespace

ThreadPool::ThreadPool(int threads, std::vector<int> cores) {
  for (int i = 1; i < threads; ++i) {
    const int core = cores.empty() ? -1 : cores[static_cast<size_t>(i) % cores.size()];
    workers_.emplace_back([this, i, core] { worker_main(i, core); });
  }
}

ThreadPool::~ThreadPool() {
  job_.store(kStop, std::memory_order_release);
  job_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int64_t n, int64_t grain, Call call, const void* context) {
  const int64_t even = (n + threads() * kChunksPerThread - 1) / (threads() * kChunksPerThread);
  const int64_t chunk = std::max(grain, even);
  const auto chunks = static_cast<uint32_t>((n + chunk - 1) / chunk);
  uint32_t job = job_.load(std::memory_order_relaxed) + 1;
  if (job == kStop) job = 0;
  // First nothing is to be taken: a worker late from the last job that reads the fields half new then finds the state changed.
  state_.store(uint64_t{job} << 32 | kClosed, std::memory_order_relaxed);
  call_.store(call, std::memory_order_release);
  context_.store(context, std::memory_order_release);
  n_.store(n, std::memory_order_release);
  chunk_.store(chunk, std::memory_order_release);
  chunks_.store(chunks, std::memory_order_release);
  done_.store(0, std::memory_order_relaxed);
  state_.store(uint64_t{job} << 32, std::memory_order_release);
  job_.store(job, std::memory_order_release);
  job_.notify_all();
  work(job, 0);
  wait_done(chunks);
}

// Takes chunks of the job until none is left.
void ThreadPool::work(uint32_t job, int thread) {
  while (true) {
    uint64_t state = state_.load(std::memory_order_acquire);
    const Call call = call_.load(std::memory_order_acquire);
    const void* context = context_.load(std::memory_order_acquire);
    const int64_t n = n_.load(std::memory_order_acquire);
    const int64_t chunk = chunk_.load(std::memory_order_acquire);
    const uint32_t chunks = chunks_.load(std::memory_order_acquire);
    const auto index = static_cast<uint32_t>(state);
    if (state >> 32 != job || index >= chunks) return;
    // Success: this job's chunk was not taken before, and the state was not closed when the fields were read, so they are this job's and
    // the caller is still in run().
    if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel, std::memory_order_relaxed)) continue;
    const int64_t begin = index * chunk;
    call(context, begin, std::min(n, begin + chunk), thread);
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == chunks && thread != 0) done_.notify_one();
  }
}

void ThreadPool::wait_done(uint32_t chunks) {
  uint32_t done = done_.load(std::memory_order_acquire);
  while (done != chunks) done = wait_change(done_, done);
}

void ThreadPool::worker_main(int thread, int core) {
  if (core >= 0) pin_to(core);
#if defined(__x86_64__)
  _mm_setcsr(0x1f80);  // the default: round to nearest, subnormals kept, whatever the creating thread had set
#endif
  uint32_t job = 0;
  while (true) {
    job = wait_change(job_, job);
    if (job == kStop) return;
    work(job, thread);
  }
}

}  // namespace shoal
