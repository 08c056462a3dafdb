// SPDX-License-Identifier: Apache-2.0
#include "base/hand_over.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <thread>

#include "base/background_thread.h"

namespace shoal {
namespace {

TEST(HandOver, GivesEverythingOnceAndEachThreadsInOrder) {
  HandOver<std::pair<int, int>> values;
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 1000; ++i) values.push({thread, i});
    });
  }
  std::vector<int> next(4);
  for (int received = 0; received < 4000;) {
    for (const auto& [thread, i] : values.receive()) {
      EXPECT_EQ(i, next[thread]++);
      ++received;
    }
  }
  EXPECT_THAT(next, testing::Each(1000));
  EXPECT_TRUE(values.take().empty());
}

TEST(HandOver, WhatIsLeftIsDestroyed) {
  const auto shared = std::make_shared<int>(1);
  {
    HandOver<std::shared_ptr<int>> values;
    values.push(shared);
    values.push(shared);
  }
  EXPECT_EQ(shared.use_count(), 1);
}

TEST(HandOver, WhoeverReceivesMayHearOfWhatIsTakenAlready) {
  HandOver<int> values;
  values.push(1);
  EXPECT_EQ(values.take(), std::vector<int>{1});
  EXPECT_TRUE(values.receive().empty());  // does not sleep
  values.push(2);
  values.push(3);
  EXPECT_EQ(values.receive(), (std::vector<int>{2, 3}));
}

TEST(BackgroundThread, WorksInOrderAndStopsInTheMiddle) {
  std::vector<int> done;
  std::promise<void> all, begun;
  {
    BackgroundThread<int> thread([&](std::vector<int> items, const std::atomic<bool>& stopping) {
      for (const int item : items) {
        done.push_back(item);
        if (item == 99) all.set_value();
        if (item < 100) continue;
        begun.set_value();
        while (!stopping) std::this_thread::yield();
      }
    });
    for (int i = 0; i < 100; ++i) thread.post(i);
    all.get_future().wait();
    thread.post(100);
    begun.get_future().wait();
    thread.post(101);  // dropped
  }
  ASSERT_EQ(done.size(), 101u);
  for (int i = 0; i <= 100; ++i) EXPECT_EQ(done[i], i);
}

}  // namespace
}  // namespace shoal
