// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <memory>
#include <numeric>

namespace shoal {
namespace {

TEST(ThreadPool, CoversEachIndexOnceWithRangesOfAtLeastTheGrain) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.threads(), threads);
    for (const int64_t n : {0, 1, 7, 64, 1000}) {
      for (const int64_t grain : {0, 1, 5, 100, 2000}) {
        std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
        std::atomic<int> short_ranges{0};
        pool.parallel_for(n, grain, [&](int64_t begin, int64_t end) {
          if (end - begin < grain && end != n) ++short_ranges;
          for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
        });
        EXPECT_EQ(short_ranges, 0);
        for (const auto& hit : hits) ASSERT_EQ(hit, 1) << threads << " threads, n " << n << ", grain " << grain;
      }
    }
  }
}

TEST(ThreadPool, ThreadNumbersIndexScratchThatNobodyElseUses) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> busy(4);
  std::atomic<int> clashes{0};
  for (int repeat = 0; repeat < 200; ++repeat) {
    pool.parallel_for(64, 1, [&](int64_t, int64_t, int thread) {
      if (busy.at(static_cast<size_t>(thread)).exchange(1) != 0) ++clashes;
      busy[static_cast<size_t>(thread)] = 0;
    });
  }
  EXPECT_EQ(clashes, 0);
}

TEST(ThreadPool, ManyShortJobsInARow) {
  ThreadPool pool(3);
  int64_t expected = 0;
  std::atomic<int64_t> sum{0};
  for (int64_t job = 1; job <= 5000; ++job) {
    pool.parallel_for(8, 1, [&, job](int64_t begin, int64_t end) { sum += (end - begin) * job; });
    expected += 8 * job;
    ASSERT_EQ(sum, expected);
  }
}

// A worker that is late from a job with few ranges must take none of the next one's for the old one's.
TEST(ThreadPool, LateWorkersNeverTakeRangesOfTheNextJob) {
  ThreadPool pool(6);
  std::vector<std::atomic<int>> hits(24);
  for (int job = 1; job <= 30000; ++job) {
    const int64_t n = job % 2 == 0 ? 24 : 2;
    pool.parallel_for(n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
    });
    const int first = job, others = job / 2;
    for (size_t i = 0; i < hits.size(); ++i) ASSERT_EQ(hits[i], i < 2 ? first : others) << "job " << job;
  }
}

TEST(ThreadPool, SmallWorkStaysOnTheCaller) {
  ThreadPool pool(4);
  const auto caller = std::this_thread::get_id();
  pool.parallel_for(10, 10, [&](int64_t begin, int64_t end) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(end - begin, 10);
  });
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

TEST(ThreadPool, IdleWorkersSleep) {
  ThreadPool pool(8);
  pool.parallel_for(64, 1, [](int64_t, int64_t) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(cpu_seconds() - before, 0.05);
}

// Eight ranks of two threads on whatever cores there are.
TEST(ThreadPool, OversubscribedPoolsKeepGoing) {
  constexpr int kRanks = 8;
  constexpr int kJobs = 300;
  std::vector<std::thread> ranks;
  std::atomic<int64_t> total{0};
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&] {
      ThreadPool pool(2);
      for (int job = 0; job < kJobs; ++job) {
        pool.parallel_for(16, 1, [&](int64_t begin, int64_t end) { total += end - begin; });
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(total, int64_t{kRanks} * kJobs * 16);
}

TEST(ThreadPool, PinsWithoutFailingOnCoresThatDoNotExist) {
  ThreadPool pool(2, {0, 100000});
  std::atomic<int64_t> sum{0};
  pool.parallel_for(100, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
  EXPECT_EQ(sum, 100);
}

}  // namespace
}  // namespace shoal
