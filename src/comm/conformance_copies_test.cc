// SPDX-License-Identifier: Apache-2.0
// The operations that move bytes: gathers, all-to-all, broadcast, counts, barrier.
#include <array>
#include <atomic>
#include <numeric>

#include "comm/conformance.h"

namespace shoal::comm_test {
namespace {

constexpr std::array kTypes{DType::kF32, DType::kBF16, DType::kI32};

int64_t bytes_of(DType dtype, int64_t elements) { return elements * static_cast<int64_t>(dtype_bytes(dtype)); }

// Uneven rows, none from every third rank.
std::vector<int64_t> uneven(int size, int64_t scale) {
  std::vector<int64_t> result;
  for (int r = 0; r < size; ++r) result.push_back(r % 3 == 2 ? 0 : scale + r);
  return result;
}

int64_t before(const std::vector<int64_t>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
}

TEST_P(CommConformance, AllGatherInRankOrder) {
  for (int size = 1; size <= 8; ++size) {
    run_all(size, [](Comm& comm) {
      for (const DType dtype : kTypes) {
        for (const int64_t columns : {1, 40, 9000}) {
          const std::vector<int64_t> rows = uneven(comm.size(), 2);
          const Tensor in = make_strided(dtype, rows[static_cast<size_t>(comm.rank())], columns, 4);
          const Tensor out = make_tensor(dtype, {before(rows, comm.size()), columns});
          fill_bytes(in, comm.rank());
          comm.all_gather(in, rows, out);
          for (int source = 0; source < comm.size(); ++source) {
            for (int64_t r = 0; r < rows[static_cast<size_t>(source)]; ++r) {
              EXPECT_TRUE(row_is(out, before(rows, source) + r, 0, source, r, bytes_of(dtype, columns))) << comm.name();
            }
          }
        }
      }
    });
  }
}

TEST_P(CommConformance, AllGatherInPlaceAndOfMoreDimensions) {
  run_all(4, [](Comm& comm) {
    const std::vector<int64_t> rows{1, 2, 3, 4};
    const Tensor out = make_tensor(DType::kF32, {10, 4, 700});
    const Tensor in = out.slice_rows(before(rows, comm.rank()), before(rows, comm.rank() + 1));
    fill_bytes(in, comm.rank());
    comm.all_gather(in, rows, out);
    for (int source = 0; source < 4; ++source) {
      for (int64_t r = 0; r < rows[static_cast<size_t>(source)]; ++r) {
        EXPECT_TRUE(row_is(out, before(rows, source) + r, 0, source, r, 4 * 700 * 4));
      }
    }
  });
}

TEST_P(CommConformance, AllGatherColumnsInRankOrder) {
  for (int size = 1; size <= 8; ++size) {
    run_all(size, [](Comm& comm) {
      for (const DType dtype : kTypes) {
        for (const int64_t rows : {0, 1, 5, 64}) {
          const std::vector<int64_t> columns = uneven(comm.size(), 500);
          const Tensor in = make_strided(dtype, rows, columns[static_cast<size_t>(comm.rank())], 2);
          const Tensor out = make_tensor(dtype, {rows, before(columns, comm.size())});
          fill_bytes(in, comm.rank());
          comm.all_gather_columns(in, columns, out);
          for (int source = 0; source < comm.size(); ++source) {
            const int64_t at = bytes_of(dtype, before(columns, source));
            const int64_t count = bytes_of(dtype, columns[static_cast<size_t>(source)]);
            for (int64_t r = 0; r < rows; ++r) EXPECT_TRUE(row_is(out, r, at, source, r, count)) << comm.name();
          }
        }
      }
    });
  }
}

// Rank s sends (s + 2 t) % 4 rows to rank t.
int64_t rows_between(int source, int target) { return (source + 2 * target) % 4; }

TEST_P(CommConformance, AllToAllOfUnevenRows) {
  for (int size = 1; size <= 8; ++size) {
    run_all(size, [](Comm& comm) {
      for (const int64_t columns : {1, 33, 7000}) {
        std::vector<int64_t> send, receive;
        for (int other = 0; other < comm.size(); ++other) {
          send.push_back(rows_between(comm.rank(), other));
          receive.push_back(rows_between(other, comm.rank()));
        }
        const Tensor in = make_strided(DType::kBF16, before(send, comm.size()), columns, 8);
        const Tensor out = make_tensor(DType::kBF16, {before(receive, comm.size()), columns});
        fill_bytes(in, comm.rank());
        comm.all_to_all(in, send, out, receive);
        int64_t row = 0;
        for (int source = 0; source < comm.size(); ++source) {
          int64_t first = 0;
          for (int target = 0; target < comm.rank(); ++target) first += rows_between(source, target);
          for (int64_t r = 0; r < rows_between(source, comm.rank()); ++r) {
            EXPECT_TRUE(row_is(out, row++, 0, source, first + r, columns * 2)) << comm.name() << " from " << source;
          }
        }
      }
    });
  }
}

// Everyone sends rows 5 and rank % 6 to each, with a second tensor of another type beside them.
TEST_P(CommConformance, AllToAllOfIndexedRowsOfSeveralTensors) {
  for (const int size : {1, 2, 5, 8}) {
    run_all(size, [](Comm& comm) {
      for (const int64_t columns : {3, 5000}) {
        const Tensor wide = make_strided(DType::kBF16, 6, columns, 2);
        const Tensor narrow = make_tensor(DType::kI32, {6, 2});
        fill_bytes(wide, comm.rank());
        fill_bytes(narrow, comm.rank() + 50);
        std::vector<int32_t> indices;
        for (int target = 0; target < comm.size(); ++target) indices.insert(indices.end(), {5, comm.rank() % 6});
        const std::vector<int64_t> two(static_cast<size_t>(comm.size()), 2);
        const std::array in{wide, narrow};
        const std::array out{make_tensor(DType::kBF16, {2 * comm.size(), columns}),
                             make_tensor(DType::kI32, {2 * comm.size(), 2})};
        comm.all_to_all_rows({.in = in, .indices = indices, .send_rows = two, .out = out, .receive_rows = two});
        for (int source = 0; source < comm.size(); ++source) {
          for (int k = 0; k < 2; ++k) {
            const int64_t row = k == 0 ? 5 : source % 6;
            EXPECT_TRUE(row_is(out[0], 2 * source + k, 0, source, row, columns * 2)) << comm.name();
            EXPECT_TRUE(row_is(out[1], 2 * source + k, 0, source + 50, row, 8)) << comm.name();
          }
        }
      }
    });
  }
}

TEST_P(CommConformance, AllToAllOfNothing) {
  run_all(3, [](Comm& comm) {
    const std::vector<int64_t> none(3, 0);
    comm.all_to_all(make_tensor(DType::kF32, {0, 16}), none, make_tensor(DType::kF32, {0, 16}), none);
  });
}

TEST_P(CommConformance, BroadcastFromEveryRoot) {
  for (int size = 1; size <= 8; ++size) {
    run_all(size, [](Comm& comm) {
      for (int root = 0; root < comm.size(); ++root) {
        for (const int64_t columns : {0, 7, 6000}) {
          const Tensor tensor = make_strided(DType::kF32, 3, columns, 2 * (comm.rank() % 2));
          fill_bytes(tensor, comm.rank());
          comm.broadcast(tensor, root);
          for (int64_t r = 0; r < 3; ++r)
            EXPECT_TRUE(row_is(tensor, r, 0, root, r, columns * 4)) << comm.name() << " " << root;
        }
      }
    });
  }
}

TEST_P(CommConformance, CountsOfEveryRank) {
  for (int size = 1; size <= 8; ++size) {
    run_all(size, [](Comm& comm) {
      for (int64_t round = 0; round < 20; ++round) {
        const std::vector<int64_t> mine{comm.rank() * 1'000'000'000'000, round, -comm.rank()};
        const auto all = comm.all_gather_counts(mine);
        ASSERT_EQ(static_cast<int>(all.size()), comm.size());
        for (int r = 0; r < comm.size(); ++r) {
          EXPECT_EQ(all[static_cast<size_t>(r)], (std::vector<int64_t>{r * 1'000'000'000'000, round, -r}));
        }
      }
    });
  }
}

TEST_P(CommConformance, NobodyLeavesABarrierBeforeAllHaveCome) {
  for (const int size : {1, 2, 3, 8}) {
    std::atomic<int> come{0};
    run_all(size, [&](Comm& comm) {
      for (int round = 1; round <= 200; ++round) {
        ++come;
        comm.barrier();
        EXPECT_GE(come.load(), round * size);
        comm.barrier();
      }
    });
  }
}

// A rank may write its buffers as soon as the operation has returned.
TEST_P(CommConformance, BuffersAreFreeOnReturn) {
  run_all(4, [](Comm& comm) {
    for (const int64_t columns : {100, 20000}) {
      const std::vector<int64_t> rows(4, 1);
      const Tensor in = make_tensor(DType::kI32, {1, columns});
      const Tensor out = make_tensor(DType::kI32, {4, columns});
      for (int round = 0; round < 50; ++round) {
        std::fill_n(raw<int32_t>(in), columns, comm.rank() + 10 * round);
        comm.all_gather(in, rows, out);
        std::fill_n(raw<int32_t>(in), columns, -1);
        for (int source = 0; source < 4; ++source) {
          const int32_t* row = raw_row<int32_t>(out, source);
          EXPECT_EQ(std::count(row, row + columns, source + 10 * round), columns);
        }
      }
    }
  });
}

}  // namespace
}  // namespace shoal::comm_test
