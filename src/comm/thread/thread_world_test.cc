// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/thread_world.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <thread>

#include "comm/conformance.h"
#include "comm/faulty_comm.h"

namespace shoal::comm_test {
namespace {

class ThreadPeer final : public Peer {
 public:
  ThreadPeer(ThreadWorld& world, int rank) : world_(world), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return world_.size(); }
  std::unique_ptr<Comm> group(const std::vector<int>& ranks, const std::string& name) override {
    return world_.group(ranks, rank_, name);
  }

 private:
  ThreadWorld& world_;
  const int rank_;
};

class ThreadTestWorld final : public TestWorld {
 public:
  ThreadTestWorld(int size, milliseconds timeout) : world_(size, {.timeout = timeout}) {}

  std::vector<std::string> spawn(const std::function<void(Peer&)>& body) override {
    std::vector<std::string> errors(static_cast<size_t>(world_.size()));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < world_.size(); ++rank) {
      threads.emplace_back([&, rank] { errors[static_cast<size_t>(rank)] = run_rank(rank, body); });
    }
    for (auto& thread : threads) thread.join();
    return errors;
  }

 private:
  std::string run_rank(int rank, const std::function<void(Peer&)>& body) {
    const ThreadWorld::RankScope scope(world_, rank);
    ThreadPeer peer(world_, rank);
    try {
      body(peer);
      return "";
    } catch (const RankDied&) {
      return "died";
    } catch (const std::exception& error) {
      world_.abort(fmt::format("rank {}: {}", rank, error.what()));
      return error.what();
    }
  }

  ThreadWorld world_;
};

Transport thread_transport() {
  return {.name = "thread",
          .make = [](int size, milliseconds timeout) { return std::make_unique<ThreadTestWorld>(size, timeout); }};
}

INSTANTIATE_TEST_SUITE_P(Thread, CommConformance, testing::Values(thread_transport()), transport_name);

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(ThreadWorld, WaitingRanksLeaveTheCoresAlone) {
  ThreadTestWorld world(8, milliseconds(60'000));
  const double before = cpu_seconds();
  const auto errors = world.spawn([](Peer& peer) {
    const auto all = peer.all();
    if (peer.rank() == 3) std::this_thread::sleep_for(milliseconds(500));
    all->barrier();
  });
  EXPECT_EQ(errors, std::vector<std::string>(8));
  EXPECT_LT(cpu_seconds() - before, 0.2);  // of 3.5 s waited
}

TEST(ThreadWorld, ATensorIsReleasedByItsSender) {
  std::weak_ptr<int> sent;
  std::thread::id released_by;
  std::thread::id sender;
  ThreadTestWorld world(2, milliseconds(60'000));
  world.spawn([&](Peer& peer) {
    const auto all = peer.all();
    if (peer.rank() == 1) {
      all->receive(make_tensor(DType::kI32, {1, 1}), 0);
      all->barrier();
      return;
    }
    sender = std::this_thread::get_id();
    std::shared_ptr<int> memory(new int(7), [&](int* p) {
      released_by = std::this_thread::get_id();
      delete p;
    });
    sent = memory;
    all->send(Tensor(DType::kI32, {1, 1}, std::move(memory)), 1);
    all->barrier();
    EXPECT_FALSE(sent.expired());
  });
  EXPECT_TRUE(sent.expired());
  EXPECT_EQ(released_by, sender);
}

TEST(ThreadWorld, AnExceptionThatLeavesTheScopeEndsTheWorld) {
  ThreadWorld world(2);
  std::thread other([&] {
    try {
      const ThreadWorld::RankScope scope(world, 1);
      world.group({0, 1}, 1, "tp")->barrier();
      throw std::runtime_error("lost");
    } catch (const std::runtime_error&) {
    }
  });
  const auto tp = world.group({0, 1}, 0, "tp");
  tp->barrier();
  EXPECT_THROW(tp->barrier(), CommError);
  other.join();
  EXPECT_TRUE(world.failed());
  EXPECT_EQ(world.cause(), "an exception ended rank 1 (computing since barrier #1 of tp[0,1])");
  EXPECT_THROW(world.group({0}, 0, "alone")->barrier(), CommError);
}

TEST(ThreadWorld, ACommOutlivesTheWorldObject) {
  auto world = std::make_unique<ThreadWorld>(1);
  const auto alone = world->group({0}, 0, "alone");
  world.reset();
  alone->barrier();
  EXPECT_EQ(alone->all_gather_counts(std::vector<int64_t>{4})[0][0], 4);
}

}  // namespace
}  // namespace shoal::comm_test
