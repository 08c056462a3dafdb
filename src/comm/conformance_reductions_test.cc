// SPDX-License-Identifier: Apache-2.0
// all_reduce and reduce_scatter: the right sum, in the documented order, to the bit.
#include <array>
#include <mutex>
#include <set>

#include "comm/conformance.h"
#include "comm/tree_sum.h"

namespace shoal::comm_test {
namespace {

auto contribution(int rank, uint64_t salt) {
  return [=](int64_t r, int64_t c) {
    return number(static_cast<uint64_t>(rank) + salt, static_cast<uint64_t>(r * 7919 + c));
  };
}

auto whole(int ranks, uint64_t salt) {
  return [=](int64_t r, int64_t c) {
    return tree_oracle(0, ranks, [&](int rank) { return contribution(rank, salt)(r, c); });
  };
}

TEST(TreeSum, AddsInTheDocumentedOrder) {
  EXPECT_EQ(left_terms(2), 1u);
  EXPECT_EQ(left_terms(3), 2u);
  EXPECT_EQ(left_terms(8), 4u);
  EXPECT_EQ(left_terms(9), 8u);
  for (const size_t count : {1, 2, 3, 4, 5, 7, 8, 11, 16, 33, 100}) {
    std::vector<std::vector<float>> terms(count, std::vector<float>(2500));
    std::vector<const float*> pointers;
    for (size_t t = 0; t < count; ++t) {
      for (size_t i = 0; i < terms[t].size(); ++i) terms[t][i] = number(t, i);
      pointers.push_back(terms[t].data());
    }
    std::vector<float> expected;
    for (size_t i = 0; i < 2500; ++i) {
      expected.push_back(
          tree_oracle(0, static_cast<int>(count), [&](int t) { return terms[static_cast<size_t>(t)][i]; }));
    }
    std::vector<float> out(2500);
    tree_sum(pointers, out.data(), 2500);
    EXPECT_EQ(std::memcmp(out.data(), expected.data(), 10000), 0) << count;
    float* last = terms.back().data();  // into one of the terms
    tree_sum(pointers, last, 2500);
    EXPECT_EQ(std::memcmp(last, expected.data(), 10000), 0) << count;
  }
}

TEST_P(CommConformance, AllReduceAddsInTheDocumentedOrder) {
  for (int size = 1; size <= 8; ++size) {
    run_all(size, [](Comm& comm) {
      for (const auto& [rows, columns] :
           std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 5}, {7, 96}, {5, 2500}, {33, 1001}}) {
        const Tensor dense = make_tensor(DType::kF32, {rows, columns});
        const Tensor strided = make_strided(DType::kF32, rows, columns, 6);
        fill(dense, contribution(comm.rank(), 0));
        fill(strided, contribution(comm.rank(), 100));
        comm.all_reduce(std::array{dense, strided});
        EXPECT_TRUE(equals(dense, whole(comm.size(), 0))) << comm.name() << " " << rows << " x " << columns;
        EXPECT_TRUE(equals(strided, whole(comm.size(), 100))) << comm.name() << " " << rows << " x " << columns;
      }
    });
  }
}

TEST_P(CommConformance, AllReduceOfAMillion) {
  for (const int size : {2, 3, 8}) {
    run_all(size, [](Comm& comm) {
      const Tensor tensor = make_tensor(DType::kF32, {1000, 1049});
      fill(tensor, contribution(comm.rank(), 5));
      comm.all_reduce({&tensor, 1});
      EXPECT_TRUE(equals(tensor, whole(comm.size(), 5))) << comm.name();
    });
  }
}

TEST_P(CommConformance, AllReduceOfNothing) {
  run_all(3, [](Comm& comm) {
    const Tensor empty = make_tensor(DType::kF32, {0, 64});
    const Tensor one = make_tensor(DType::kF32, {1, 3});
    fill(one, contribution(comm.rank(), 0));
    comm.all_reduce(std::array{empty, one});
    EXPECT_TRUE(equals(one, whole(3, 0)));
    comm.all_reduce({});
  });
}

// The sum of a row is the same bits alone and within any larger message.
TEST_P(CommConformance, MessageSizeNeverChangesTheSum) {
  for (const int size : {5, 7, 8}) {
    run_all(size, [](Comm& comm) {
      const Tensor many = make_tensor(DType::kF32, {64, 1024});
      const Tensor one = make_tensor(DType::kF32, {1, 1024});
      fill(many, contribution(comm.rank(), 9));
      comm.all_reduce({&many, 1});
      for (const int64_t row : {0, 17, 63}) {
        fill(one, [&](int64_t, int64_t c) { return contribution(comm.rank(), 9)(row, c); });
        comm.all_reduce({&one, 1});
        EXPECT_EQ(std::memcmp(raw_row<float>(one, 0), raw_row<float>(many, row), 4096), 0)
            << comm.name() << " row " << row;
      }
    });
  }
}

TEST_P(CommConformance, AllReduceRepeatsToTheBitOnEveryRank) {
  std::mutex mutex;
  std::set<std::string> results;
  run_all(6, [&](Comm& comm) {
    for (int i = 0; i < 10; ++i) {
      const Tensor tensor = make_tensor(DType::kF32, {11, 333 * (i % 2 ? 1 : 9)});
      fill(tensor, contribution(comm.rank(), 3));
      comm.all_reduce({&tensor, 1});
      const std::lock_guard lock(mutex);
      results.emplace(reinterpret_cast<const char*>(raw<float>(tensor)), static_cast<size_t>(tensor.bytes()));
    }
  });
  EXPECT_EQ(results.size(), 2u);  // one for each of the two sizes
}

TEST_P(CommConformance, ReduceScatterGivesRowsOfTheSum) {
  for (int size = 1; size <= 8; ++size) {
    run_all(size, [](Comm& comm) {
      for (const int64_t columns : {1, 48, 3000}) {
        std::vector<int64_t> rows;  // uneven, some empty
        for (int r = 0; r < comm.size(); ++r) rows.push_back(r % 3 == 1 ? 0 : 2 + r);
        int64_t total = 0, first = 0;
        for (int r = 0; r < comm.size(); ++r) {
          if (r == comm.rank()) first = total;
          total += rows[static_cast<size_t>(r)];
        }
        const int64_t mine = rows[static_cast<size_t>(comm.rank())];
        const Tensor in = make_strided(DType::kF32, total, columns, 10);
        const Tensor out = make_tensor(DType::kF32, {mine, columns});
        fill(in, contribution(comm.rank(), 1));
        const auto expected = [&](int64_t r, int64_t c) { return whole(comm.size(), 1)(first + r, c); };
        comm.reduce_scatter(in, rows, out);
        EXPECT_TRUE(equals(out, expected)) << comm.name() << " " << columns;
        const Tensor in_place = in.slice_rows(first, first + mine);
        comm.reduce_scatter(in, rows, in_place);
        EXPECT_TRUE(equals(in_place, expected)) << comm.name() << " " << columns << " in place";
      }
    });
  }
}

}  // namespace
}  // namespace shoal::comm_test
