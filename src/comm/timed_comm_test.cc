// SPDX-License-Identifier: Apache-2.0
// Bytes by receiver of each operation, over a transport that does nothing but look whether it is timed.
#include "comm/timed_comm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>

namespace shoal {
namespace {

using testing::ElementsAre;

class StillComm final : public Comm {
 public:
  explicit StillComm(const CommMeter& meter) : meter_(meter) {}
  const std::string& name() const override { return name_; }
  int rank() const override { return 1; }
  int size() const override { return 4; }
  void all_reduce(std::span<const Tensor>) override { look(); }
  void all_gather(const Tensor&, std::span<const int64_t>, const Tensor&) override { look(); }
  void all_gather_columns(const Tensor&, std::span<const int64_t>, const Tensor&) override { look(); }
  void reduce_scatter(const Tensor&, std::span<const int64_t>, const Tensor&) override { look(); }
  void all_to_all_rows(const RowExchange&) override { look(); }
  void broadcast(const Tensor&, int) override { look(); }
  void send(std::span<const Tensor>, int) override { look(); }
  void receive(std::span<const Tensor>, int) override { look(); }
  void barrier() override { look(); }
  std::vector<std::vector<int64_t>> all_gather_counts(std::span<const int64_t>) override {
    look();
    return {};
  }

 private:
  void look() const { EXPECT_TRUE(meter_.inside); }
  const std::string name_ = "still";
  const CommMeter& meter_;
};

// Rank 1 of a group of world ranks 4, 5, 6, 7; tensors of 8 rows of 16 bytes.
class TimedCommTest : public testing::Test {
 protected:
  // What `operation` sends to the ranks of the group.
  template <typename Operation>
  std::vector<int64_t> sent_by(Operation&& operation) {
    const std::vector<int64_t> before = sent_.read();
    operation();
    EXPECT_FALSE(meter_.inside);
    const std::vector<int64_t> after = sent_.read();
    EXPECT_EQ(std::vector<int64_t>(after.begin(), after.begin() + 4), std::vector<int64_t>(4));
    std::vector<int64_t> sent;
    for (size_t rank = 4; rank < 8; ++rank) sent.push_back(after[rank] - before[rank]);
    return sent;
  }

  CommMeter meter_;
  SentBytes sent_{8};
  TimedComm comm_{std::make_unique<StillComm>(meter_), meter_, sent_, {4, 5, 6, 7}};
  const Tensor tensor_{DType::kF32, {8, 4}, std::make_shared<std::array<float, 32>>()};
  const std::vector<int64_t> rows_{1, 2, 3, 2};
};

TEST_F(TimedCommTest, Reductions) {
  EXPECT_THAT(sent_by([&] { comm_.all_reduce({&tensor_, 1}); }), ElementsAre(64, 0, 64, 64));  // 2 / 4 of 128
  EXPECT_THAT(sent_by([&] { comm_.reduce_scatter(tensor_, rows_, tensor_); }), ElementsAre(16, 0, 48, 32));
}

TEST_F(TimedCommTest, WhatEachRankGetsWhole) {
  const auto each = ElementsAre(128, 0, 128, 128);
  EXPECT_THAT(sent_by([&] { comm_.all_gather(tensor_, rows_, tensor_); }), each);
  EXPECT_THAT(sent_by([&] { comm_.all_gather_columns(tensor_, rows_, tensor_); }), each);
  EXPECT_THAT(sent_by([&] { comm_.broadcast(tensor_, 1); }), each);
  EXPECT_THAT(sent_by([&] { comm_.broadcast(tensor_, 0); }), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(sent_by([&] { comm_.all_gather_counts(rows_); }), ElementsAre(32, 0, 32, 32));
}

TEST_F(TimedCommTest, OneToOne) {
  EXPECT_THAT(sent_by([&] { comm_.all_to_all(tensor_, rows_, tensor_, rows_); }), ElementsAre(16, 0, 48, 32));
  EXPECT_THAT(sent_by([&] { comm_.send(tensor_, 3); }), ElementsAre(0, 0, 0, 128));
  EXPECT_THAT(sent_by([&] { comm_.receive(tensor_, 3); }), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(sent_by([&] { comm_.barrier(); }), ElementsAre(0, 0, 0, 0));
}

}  // namespace
}  // namespace shoal
