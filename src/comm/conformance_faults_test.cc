// SPDX-License-Identifier: Apache-2.0
// A rank that throws, stalls, dies or calls something else: everyone ends, soon, with an error that names it.
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "comm/conformance.h"
#include "comm/faulty_comm.h"

namespace shoal::comm_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kPrompt{5'000};  // far below the patient time-out, far above what a loaded machine needs

// One round of what a model does; every buffer is freed when an exception passes.
void model_step(Comm& comm, int64_t columns) {
  const Tensor sum = make_tensor(DType::kF32, {4, columns});
  fill(sum, [](int64_t, int64_t) { return 1.0f; });
  comm.all_reduce({&sum, 1});
  const std::vector<int64_t> ones(static_cast<size_t>(comm.size()), 1);
  const Tensor row = make_tensor(DType::kF32, {1, columns});
  fill_bytes(row, comm.rank());
  const Tensor rows = make_tensor(DType::kF32, {comm.size(), columns});
  comm.all_gather(row, ones, rows);
  const Tensor swapped = make_tensor(DType::kF32, {comm.size(), columns});
  comm.all_to_all(rows, ones, swapped, ones);
  comm.broadcast(row, 0);
}

std::unique_ptr<Comm> with_fault(Peer& peer, int faulty_rank, const Fault& fault) {
  if (peer.rank() != faulty_rank) return peer.all();
  return std::make_unique<FaultyComm>(peer.all(), fault);
}

TEST_P(CommConformance, AThrowingRankEndsAll) {
  for (const int64_t columns : {16, 20000}) {
    for (const int at : {1, 2, 3, 4, 10}) {
      const auto start = Clock::now();
      const auto errors = spawn(4, kPatient, [&](Peer& peer) {
        const auto all = with_fault(peer, 2, {.kind = Fault::Kind::kThrow, .at = at});
        for (int round = 0; round < 5; ++round) model_step(*all, columns);
      });
      EXPECT_LT(Clock::now() - start, kPrompt);
      EXPECT_EQ(errors[2], "injected fault");
      for (const int rank : {0, 1, 3})
        EXPECT_THAT(errors[static_cast<size_t>(rank)], HasSubstr("rank 2: injected fault"));
    }
  }
}

TEST_P(CommConformance, AStalledRankIsNamedAfterTheTimeOut) {
  const auto errors = spawn(3, milliseconds(150), [&](Peer& peer) {
    const auto all = with_fault(peer, 1, {.kind = Fault::Kind::kStall, .at = 6, .stall = milliseconds(600)});
    for (int round = 0; round < 5; ++round) model_step(*all, 64);
  });
  for (const std::string& error : errors) {
    EXPECT_THAT(error, AllOf(HasSubstr("all_gather"), HasSubstr("all[0,1,2]"), HasSubstr("timed out after 0."),
                             HasSubstr("late: rank 1 (computing since all_reduce")));
    EXPECT_THAT(error, AllOf(Not(HasSubstr("late: rank 0")), Not(HasSubstr("late: rank 2"))));
  }
}

TEST_P(CommConformance, ADeadRankIsNoticedAtOnce) {
  for (const int64_t columns : {16, 20000}) {
    for (const int at : {1, 3, 8}) {
      const auto start = Clock::now();
      const auto errors = spawn(4, kPatient, [&](Peer& peer) {
        const auto all = with_fault(peer, 3, {.kind = Fault::Kind::kDie, .at = at});
        for (int round = 0; round < 5; ++round) model_step(*all, columns);
      });
      EXPECT_LT(Clock::now() - start, kPrompt);
      EXPECT_EQ(errors[3], "died");
      for (const int rank : {0, 1, 2}) {
        EXPECT_THAT(errors[static_cast<size_t>(rank)], AllOf(HasSubstr("peer has ended"), HasSubstr("rank 3 (")));
      }
    }
  }
}

// Rank 0 waits for rank 1, which waits for rank 2, which does nothing: the one to blame is rank 2.
TEST_P(CommConformance, TheLastOfAChainIsNamed) {
  const auto errors = spawn(3, milliseconds(300), [&](Peer& peer) {
    const auto front = peer.rank() < 2 ? peer.group({0, 1}, "front") : nullptr;
    const auto back = peer.rank() > 0 ? peer.group({1, 2}, "back") : nullptr;
    if (back) back->barrier();
    if (peer.rank() == 0) front->barrier();
    std::this_thread::sleep_for(milliseconds(peer.rank() == 2 ? 1500 : 30));
    back->barrier();
    front->barrier();
  });
  EXPECT_THAT(errors[0], AllOf(HasSubstr("front[0,1]"), HasSubstr("rank 1 (in barrier #2 of back[1,2])"),
                               HasSubstr("rank 2 (computing since barrier #1 of back[1,2])")));
}

TEST_P(CommConformance, RanksThatWaitForEachOtherAreToldSo) {
  const auto errors = spawn(2, milliseconds(200), [&](Peer& peer) {
    const auto all = peer.all();
    all->receive(make_tensor(DType::kF32, {1, 1}), 1 - peer.rank());
  });
  EXPECT_THAT(errors[0], HasSubstr("they wait for each other"));
  EXPECT_THAT(errors[1], HasSubstr("they wait for each other"));
}

TEST_P(CommConformance, MessagesEndWithTheWorld) {
  for (const auto kind : {Fault::Kind::kThrow, Fault::Kind::kDie}) {
    const auto start = Clock::now();
    const auto errors = spawn(3, kPatient, [&](Peer& peer) {
      const auto all = with_fault(peer, 2, {.kind = kind, .at = 3});
      const Tensor out = make_tensor(DType::kF32, {1, 10});
      const Tensor in = make_tensor(DType::kF32, {1, 10});
      fill(out, [](int64_t, int64_t) { return 1.0f; });
      for (int i = 0; i < 100; ++i) {
        if (peer.rank() == 0) all->send(out, 2);  // until it has to wait
        if (peer.rank() == 1) all->receive(in, 2);
        if (peer.rank() == 2) i % 2 ? all->receive(in, 0) : all->send(out, 1);
      }
    });
    EXPECT_LT(Clock::now() - start, kPrompt);
    const std::string culprit = kind == Fault::Kind::kThrow ? "rank 2: injected fault" : "rank 2 (ended after";
    EXPECT_THAT(errors[0], AllOf(HasSubstr("send #"), HasSubstr(culprit)));
    EXPECT_THAT(errors[1], HasSubstr(culprit));
  }
}

TEST_P(CommConformance, AMessageOfAnotherSizeIsRefused) {
  const auto errors = spawn(2, kPatient, [&](Peer& peer) {
    const auto all = peer.all();
    if (peer.rank() == 0) return all->send(make_tensor(DType::kF32, {2, 8}), 1);
    all->receive(make_tensor(DType::kF32, {3, 8}), 0);
  });
  EXPECT_THAT(errors[1], AllOf(HasSubstr("rank 1: receive #1"),
                               HasSubstr("expects 3 x 32 bytes of float32, the peer sent 2 x 32")));
}

TEST_P(CommConformance, AMessageOfMoreTensorsIsRefused) {
  const auto errors = spawn(2, kPatient, [&](Peer& peer) {
    const auto all = peer.all();
    const std::array tensors = {make_tensor(DType::kF32, {2, 8}), make_tensor(DType::kF32, {2, 8})};
    if (peer.rank() == 0) return all->send(tensors, 1);
    all->receive(tensors[0], 0);
  });
  EXPECT_THAT(errors[1], AllOf(HasSubstr("rank 1: receive #1"), HasSubstr("expects 1 tensors, the peer sent 2")));
}

std::string both_names(const std::vector<std::string>& errors) {
  EXPECT_EQ(errors.size(), 2u);
  EXPECT_NE(errors[0], "");
  EXPECT_NE(errors[1], "");
  return errors[0];
}

TEST_P(CommConformance, DifferentOperationsAreRefused) {
  for (const int64_t columns : {4, 30000}) {
    const std::string error = both_names(spawn(2, kPatient, [&](Peer& peer) {
      const auto all = peer.all();
      const Tensor one = make_tensor(DType::kF32, {1, columns});
      const Tensor two = make_tensor(DType::kF32, {2, columns});
      fill(one, [](int64_t, int64_t) { return 0.0f; });
      all->barrier();
      if (peer.rank() == 0) return all->all_reduce({&one, 1});
      all->all_gather(one, std::array<int64_t, 2>{1, 1}, two);
    }));
    EXPECT_THAT(error, AllOf(HasSubstr("#2 of all[0,1]"), HasSubstr("rank 1 called all_gather(float32 1 x"),
                             HasSubstr("while rank 0 called all_reduce(")));
  }
}

TEST_P(CommConformance, DifferentSizesAreRefused) {
  const auto mismatch = [&](const std::function<void(Comm&)>& call) {
    return both_names(spawn(2, kPatient, [&](Peer& peer) { call(*peer.all()); }));
  };
  EXPECT_THAT(
      mismatch([](Comm& comm) {
        const Tensor tensor = make_tensor(DType::kF32, {1 + comm.rank(), 3});
        fill(tensor, [](int64_t, int64_t) { return 0.0f; });
        comm.all_reduce({&tensor, 1});
      }),
      HasSubstr("rank 1 called all_reduce(float32 2 x 12 bytes) while rank 0 called all_reduce(float32 1 x 12 bytes)"));
  EXPECT_THAT(mismatch([](Comm& comm) {
                comm.broadcast(make_tensor(DType::kI32, {3, 40000}), comm.rank());
              }),
              HasSubstr("rank 1 called broadcast(int32 3 x 160000 bytes; root 1) while rank 0"));
  EXPECT_THAT(
      mismatch([](Comm& comm) { comm.all_gather_counts(std::vector<int64_t>(static_cast<size_t>(2 + comm.rank()))); }),
      HasSubstr("rank 1 called all_gather_counts(3 integers) while rank 0 called all_gather_counts(2 integers)"));
  EXPECT_THAT(mismatch([](Comm& comm) {
                const std::array<int64_t, 2> send{1, 1};
                const std::array<int64_t, 2> receive{1, comm.rank() == 0 ? 2 : 1};
                const Tensor in = make_tensor(DType::kF32, {2, 30000});
                const Tensor out = make_tensor(DType::kF32, {receive[0] + receive[1], 30000});
                fill_bytes(in, 0);
                comm.all_to_all(in, send, out, receive);
              }),
              HasSubstr("expects 2 rows from rank 1, which called all_to_all(float32 2 x 120000 bytes; 1 1)"));
}

// The first failure stays the reason; a rank that goes on is told again.
TEST_P(CommConformance, AFailedWorldStaysFailed) {
  const auto errors = spawn(3, kPatient, [&](Peer& peer) {
    const auto all = peer.all();
    all->barrier();
    if (peer.rank() == 0) throw std::runtime_error("first cause");
    EXPECT_THROW(all->barrier(), CommError);
    EXPECT_THROW(model_step(*all, 30000), CommError);
    EXPECT_THROW(peer.group({peer.rank()}, "alone")->barrier(), CommError);
    throw std::runtime_error("second cause");
  });
  EXPECT_EQ(errors[0], "first cause");
  EXPECT_EQ(errors[1], "second cause");
}

// A rank that gives up may reuse its memory at once, even if another was just copying from it: rank 2 ends the world while rank 1
// (most of the time) copies from rank 0, which then writes over what it had sent.
TEST_P(CommConformance, NobodyReadsTheMemoryOfARankThatGaveUp) {
  constexpr int64_t kElements = int64_t{2} << 20;
  for (int trial = 0; trial < 8; ++trial) {
    std::atomic<int> rounds{0};
    const auto errors = spawn(3, kPatient, [&](Peer& peer) {
      if (peer.rank() == 2) {
        for (int i = 0; i < 5000 && rounds.load() < 2; ++i) std::this_thread::sleep_for(milliseconds(1));
        std::this_thread::sleep_for(std::chrono::microseconds(500 * trial));
        throw std::runtime_error("enough");
      }
      const auto pair = peer.group({0, 1}, "pair");
      const Tensor tensor = make_tensor(DType::kI32, {1, kElements});
      int32_t* const data = raw<int32_t>(tensor);
      std::fill_n(data, kElements, peer.rank() == 0 ? 1 : 0);
      try {
        for (;; ++rounds) {
          pair->broadcast(tensor, 0);
          EXPECT_EQ(std::count(data, data + kElements, 1), kElements);
        }
      } catch (const CommError&) {
        if (peer.rank() == 0) std::fill_n(data, kElements, 2);
        throw;
      }
    });
    EXPECT_THAT(errors[0], HasSubstr("rank 2: enough"));
    EXPECT_THAT(errors[1], HasSubstr("rank 2: enough"));
  }
}

}  // namespace
}  // namespace shoal::comm_test
