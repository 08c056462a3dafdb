// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

#include "base/whole.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace shoal {
namespace {

constexpr uint32_t kStop = ~uint32_t{0};
constexpr int64_t kUnitsPerThread = 32;  // the last pieces are single units: so closely do threads end together
constexpr int64_t kMostUnits = 0xffff;   // what a share's state can count
constexpr int kSpins = 400;              // some 10 us
constexpr int kYields = 60;              // some 20 us on a free core; on a busy one, the others' turns

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

int64_t unit_of(int64_t n, int64_t grain, int threads) {
  return std::max(grain, ceil_div(n, std::min(threads * kUnitsPerThread, kMostUnits)));
}

// Of `units` units, those that are a thread's own.
Range units_of(int64_t units, int64_t threads, int64_t thread) {
  return {ceil_div(units * thread, threads), ceil_div(units * (thread + 1), threads)};
}

// A share's state: the job's number and two numbers of units, at most kMostUnits.
uint64_t pack_units(uint32_t job, Range units) {
  return uint64_t{job} << 32 | static_cast<uint64_t>(units.begin) << 16 | static_cast<uint64_t>(units.end);
}
Range unpack_units(uint64_t state) {
  return {static_cast<int64_t>(state >> 16 & 0xffff), static_cast<int64_t>(state & 0xffff)};
}

void pin_to(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);  // a core that is not ours to use: stay unpinned
}

}  // namespace

ThreadPool::ThreadPool(int threads, std::vector<int> cores)
    : shares_(std::make_unique<Share[]>(static_cast<size_t>(std::max(threads, 1)))) {
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

Range ThreadPool::share(int64_t n, int64_t grain, int thread) const {
  const int64_t unit = unit_of(n, grain, threads());
  const Range units = units_of(ceil_div(n, unit), threads(), thread);
  return {std::min(n, units.begin * unit), std::min(n, units.end * unit)};
}

void ThreadPool::run(int64_t n, int64_t grain, Call call, const void* context) {
  uint32_t job = job_.load(std::memory_order_relaxed) + 1;
  if (job == kStop) job = 0;
  call_ = call;
  context_ = context;
  n_ = n;
  unit_ = unit_of(n, grain, threads());
  units_ = static_cast<uint32_t>(ceil_div(n, unit_));
  done_.store(0, std::memory_order_relaxed);
  for (int thread = 0; thread < threads(); ++thread) {
    shares_[static_cast<size_t>(thread)].state.store(pack_units(job, units_of(units_, threads(), thread)),
                                                     std::memory_order_release);
  }
  job_.store(job, std::memory_order_release);
  job_.notify_all();
  const uint32_t units = units_;
  work(job, 0);
  wait_done(units);
}

// Takes pieces of the job until none is left. A share that is empty stays so until the next job.
void ThreadPool::work(uint32_t job, int thread) {
  const int count = threads();
  Range units;
  for (int i = 0; i < count; ++i) {
    Share& share = shares_[static_cast<size_t>((thread + i) % count)];
    while (take(share, job, i == 0, units)) {
      call_(context_, units.begin * unit_, std::min(n_, units.end * unit_), thread);
      const auto taken = static_cast<uint32_t>(units.size());
      const uint32_t all = units_;  // the job may be over, and the next one begun, once the last unit is counted
      if (done_.fetch_add(taken, std::memory_order_acq_rel) + taken == all && thread != 0) done_.notify_one();
    }
  }
}

// A quarter of what is left of one's own share, from the front; half of what is left of another's, from the back. Who has taken a unit may
// read the job until it is counted as done.
bool ThreadPool::take(Share& share, uint32_t job, bool own, Range& units) {
  uint64_t state = share.state.load(std::memory_order_acquire);
  while (true) {
    const Range left = unpack_units(state);
    if (state >> 32 != job || left.size() == 0) return false;
    const int64_t count = ceil_div(left.size(), own ? 4 : 2);
    units = own ? Range{left.begin, left.begin + count} : Range{left.end - count, left.end};
    const Range rest = own ? Range{units.end, left.end} : Range{left.begin, units.begin};
    if (share.state.compare_exchange_weak(state, pack_units(job, rest), std::memory_order_acq_rel,
                                          std::memory_order_acquire))
      return true;
  }
}

void ThreadPool::wait_done(uint32_t units) {
  uint32_t done = done_.load(std::memory_order_acquire);
  while (done != units) done = wait_change(done_, done);
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
