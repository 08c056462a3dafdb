// SPDX-License-Identifier: Apache-2.0
// Messages between two ranks, several groups at once, and long runs.
#include <array>
#include <atomic>

#include "comm/conformance.h"

namespace shoal::comm_test {
namespace {

TEST_P(CommConformance, MessagesArriveInOrder) {
  run_all(3, [](Comm& comm) {
    const int next = (comm.rank() + 1) % 3, previous = (comm.rank() + 2) % 3;
    for (int round = 0; round < 100; ++round) {
      const int64_t columns = round % 7 == 0 ? 20000 : 5 + round;
      const Tensor out = make_strided(DType::kBF16, 2, columns, 2);
      fill_bytes(out, comm.rank() + round);
      comm.send(out, next);
      const Tensor in = make_tensor(DType::kBF16, {2, columns});
      comm.receive(in, previous);
      for (int64_t r = 0; r < 2; ++r) EXPECT_TRUE(row_is(in, r, 0, previous + round, r, columns * 2)) << round;
    }
  });
}

// The sender waits for a slow receiver, and nothing is lost.
TEST_P(CommConformance, ASenderMayRunAheadOfItsReceiver) {
  run_all(2, [](Comm& comm) {
    constexpr int kMessages = 60;
    for (int i = 0; i < kMessages; ++i) {
      const Tensor tensor = make_tensor(DType::kF32, {1, 64});
      if (comm.rank() == 0) {
        fill_bytes(tensor, i);
        comm.send(tensor, 1);
      } else {
        if (i % 20 == 0) std::this_thread::sleep_for(milliseconds(5));
        comm.receive(tensor, 0);
        EXPECT_TRUE(row_is(tensor, 0, 0, i, 0, 256)) << i;
      }
    }
  });
}

TEST_P(CommConformance, TensorsOfOneMessage) {
  run_all(2, [](Comm& comm) {
    for (int i = 0; i < 10; ++i) {
      const std::array tensors = {make_tensor(DType::kF32, {1, 64}), make_tensor(DType::kBF16, {3, 20000})};
      if (comm.rank() == 0) {
        for (const Tensor& tensor : tensors) fill_bytes(tensor, i);
        comm.send(tensors, 1);
      } else {
        comm.receive(tensors, 0);
        EXPECT_TRUE(row_is(tensors[0], 0, 0, i, 0, 256)) << i;
        EXPECT_TRUE(row_is(tensors[1], 2, 0, i, 2, 40000)) << i;
      }
    }
  });
}

// So that what a rank holds for others is bounded.
TEST_P(CommConformance, OneMessageIsUnderWay) {
  std::atomic<int> sent = 0;
  run_all(2, [&](Comm& comm) {
    const Tensor tensor = make_tensor(DType::kF32, {1, 4});
    for (int i = 0; i < 5; ++i) {
      if (comm.rank() == 0) {
        comm.send(tensor, 1);
        ++sent;
      } else {
        std::this_thread::sleep_for(milliseconds(5));
        EXPECT_LE(sent, i + 1);
        comm.receive(tensor, 0);
      }
    }
  });
}

TEST_P(CommConformance, BothDirectionsAndItself) {
  run_all(2, [](Comm& comm) {
    const Tensor mine = make_tensor(DType::kF32, {4, 8});
    const Tensor got = make_tensor(DType::kF32, {4, 8});
    fill_bytes(mine, comm.rank());
    comm.send(mine, 1 - comm.rank());
    comm.send(mine, comm.rank());
    comm.receive(got, comm.rank());
    EXPECT_TRUE(row_is(got, 3, 0, comm.rank(), 3, 32));
    comm.receive(got, 1 - comm.rank());
    EXPECT_TRUE(row_is(got, 3, 0, 1 - comm.rank(), 3, 32));
  });
}

void add_rank(Comm& comm, int value, float expected) {
  const Tensor tensor = make_tensor(DType::kF32, {1, 4});
  fill(tensor, [&](int64_t, int64_t) { return static_cast<float>(value); });
  comm.all_reduce({&tensor, 1});
  EXPECT_TRUE(equals(tensor, [&](int64_t, int64_t) { return expected; })) << comm.name();
}

TEST_P(CommConformance, GroupsHaveTheirOwnOrderAndNames) {
  run(4, [](Peer& peer) {
    const auto reversed = peer.group({3, 2, 1, 0}, "tp");
    EXPECT_EQ(reversed->rank(), 3 - peer.rank());
    EXPECT_EQ(reversed->name(), "tp[3,2,1,0]");
    const auto all = peer.all();
    EXPECT_EQ(all->rank(), peer.rank());
    EXPECT_EQ(all->size(), 4);
    const auto alone = peer.group({peer.rank()}, "alone");
    EXPECT_EQ(alone->size(), 1);
    add_rank(*alone, peer.rank(), static_cast<float>(peer.rank()));
    alone->barrier();
  });
}

// Eight ranks as 2 x 4: rows and columns of the grid and everybody, interleaved and out of step with each other.
TEST_P(CommConformance, ManyGroupsAtOnce) {
  run(8, [](Peer& peer) {
    const int row = peer.rank() / 4, column = peer.rank() % 4;
    const auto rows = peer.group({row * 4, row * 4 + 1, row * 4 + 2, row * 4 + 3}, "row");
    const auto columns = peer.group({column, column + 4}, "column");
    const auto all = peer.all();
    for (int round = 0; round < 60; ++round) {
      for (int i = 0; i <= row; ++i) add_rank(*rows, peer.rank(), static_cast<float>(row * 16 + 6));
      for (int i = 0; i <= column; ++i) add_rank(*columns, peer.rank(), static_cast<float>(2 * column + 4));
      if (round % 10 == 0) add_rank(*all, peer.rank(), 28);
    }
  });
}

TEST_P(CommConformance, ManyOperationsOfAllKindsInARow) {
  for (const int size : {2, 5}) {
    run_all(size, [](Comm& comm) {
      const Tensor small = make_tensor(DType::kF32, {1, 16});
      const Tensor large = make_tensor(DType::kF32, {16, 1024});
      const std::vector<int64_t> ones(static_cast<size_t>(comm.size()), 1);
      const Tensor gathered = make_tensor(DType::kF32, {comm.size(), 16});
      for (int round = 0; round < 300; ++round) {
        const auto value = [&](int64_t, int64_t) { return static_cast<float>(round % 16); };
        const auto total = [&](int64_t, int64_t) { return static_cast<float>(round % 16 * comm.size()); };
        fill(small, value);
        comm.all_reduce({&small, 1});
        EXPECT_TRUE(equals(small, total)) << round;
        if (round % 4 == 0) {
          fill(large, value);
          comm.all_reduce({&large, 1});
          EXPECT_TRUE(equals(large, total)) << round;
        }
        comm.all_gather(small, ones, gathered);
        EXPECT_TRUE(equals(gathered, total)) << round;
        if (round % 3 == 0) comm.broadcast(large, round % comm.size());
        if (round % 5 == 0) comm.barrier();
      }
    });
  }
}

}  // namespace
}  // namespace shoal::comm_test
