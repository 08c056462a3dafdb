// SPDX-License-Identifier: Apache-2.0
#include "parallel/context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <vector>

#include "tensor/page_share.h"

namespace shoal {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

// 16 rows on 2 ranks, as the header says: 68 keys each.
TEST(ZigzagRows, WorkedExample) {
  EXPECT_EQ(zigzag_rows(16, 0, 2), (std::array{Range{0, 4}, Range{12, 16}}));
  EXPECT_EQ(zigzag_rows(16, 1, 2), (std::array{Range{4, 8}, Range{8, 12}}));
}

TEST(ZigzagRows, EveryRowHasOneRank) {
  for (const int64_t ranks : {1, 2, 3, 4, 8, 13}) {
    for (const int64_t n : {0, 1, 2, 3, 7, 16, 31, 100, 1001}) {
      std::vector<int> owners(static_cast<size_t>(n));
      for (int64_t rank = 0; rank < ranks; ++rank)
        for (const Range& piece : zigzag_rows(n, rank, ranks))
          for (int64_t row = piece.begin; row < piece.end; ++row) ++owners[static_cast<size_t>(row)];
      EXPECT_THAT(owners, Each(1)) << n << " rows on " << ranks;
    }
  }
}

int64_t keys_seen(int64_t before, const std::array<Range, 2>& pieces) {
  int64_t keys = 0;
  for (const Range& piece : pieces)
    for (int64_t row = piece.begin; row < piece.end; ++row) keys += before + row + 1;
  return keys;
}

// Row r sees before + r + 1 keys. Pieces differ by one row at most, so that the work of ranks differs by less than two rows of the longest.
TEST(ZigzagRows, CausalWorkIsEven) {
  for (const int64_t before : {0, 500}) {
    for (const int64_t ranks : {2, 3, 4, 8}) {
      for (const int64_t n : {64, 257, 4096}) {
        std::vector<int64_t> work;
        for (int64_t rank = 0; rank < ranks; ++rank) work.push_back(keys_seen(before, zigzag_rows(n, rank, ranks)));
        const auto [least, most] = std::minmax_element(work.begin(), work.end());
        EXPECT_LE(*most - *least, 2 * (before + n)) << n << " rows on " << ranks;
      }
    }
  }
}

TEST(PageRuns, WorkedExample) {
  EXPECT_THAT(page_runs(std::vector<int64_t>{3, 1, 1, 5, 2}, 6, 2),
              ElementsAre(Range{0, 2}, Range{2, 3}, Range{3, 4}, Range{4, 5}));
}

TEST(PageRuns, ALongSequenceIsARunByItself) {
  EXPECT_THAT(page_runs(std::vector<int64_t>{1, 9, 1}, 4, 1), ElementsAre(Range{0, 1}, Range{1, 2}, Range{2, 3}));
  EXPECT_THAT(page_runs({}, 4, 1), ElementsAre());
}

// Every sequence once, in order; no run takes more than one sequence of `most` pages would, and none could take the next sequence too.
RC_GTEST_PROP(PageRuns, AreAsLongAsTheyMayBe, ()) {
  const auto pages = *rc::gen::container<std::vector<int64_t>>(rc::gen::inRange<int64_t>(0, 20));
  const int64_t most = *rc::gen::inRange<int64_t>(1, 40), ranks = *rc::gen::inRange<int64_t>(1, 6);
  const auto fits = [&](const Range& run) {
    int64_t total = 0, share = 0;
    for (int64_t i = run.begin; i < run.end; ++i) {
      total += pages[static_cast<size_t>(i)];
      share += (pages[static_cast<size_t>(i)] + ranks - 1) / ranks;
    }
    return total <= most && share <= (most + ranks - 1) / ranks;
  };
  int64_t next = 0;
  for (const Range& run : page_runs(pages, most, ranks)) {
    RC_ASSERT(run.begin == next && run.size() > 0);
    RC_ASSERT(run.size() == 1 || fits(run));
    next = run.end;
    if (next < std::ssize(pages)) RC_ASSERT(!fits({run.begin, next + 1}));
  }
  RC_ASSERT(next == std::ssize(pages));
}

TEST(KvHeadsOf, WorkedExamples) {
  EXPECT_THAT(kv_heads_of({2, 4}, 8, 2), ElementsAre(0));
  EXPECT_THAT(kv_heads_of({2, 5}, 8, 2), ElementsAre(0, 0, 1));
  EXPECT_THAT(kv_heads_of({0, 8}, 8, 2), ElementsAre(0, 1));
  EXPECT_TRUE(kv_heads_of({3, 3}, 8, 2).empty());
}

TEST(KvHeadsOf, EveryQueryHeadReadsItsOwn) {
  for (const int64_t all : {4, 6, 8, 12})
    for (int64_t kv_heads = 1; kv_heads <= all; ++kv_heads)
      for (int64_t begin = 0; all % kv_heads == 0 && begin < all; ++begin)
        for (int64_t end = begin + 1; end <= all; ++end) {
          const std::vector<int64_t> read = kv_heads_of({begin, end}, all, kv_heads);
          ASSERT_EQ((end - begin) % std::ssize(read), 0);
          for (int64_t i = 0; i < end - begin; ++i)
            ASSERT_EQ(read[static_cast<size_t>(i * std::ssize(read) / (end - begin))], (begin + i) / (all / kv_heads));
        }
}

TEST(PageShare, WorkedExample) {
  const PageShare share{.rank = 1, .ranks = 2};
  EXPECT_EQ(share.held_before(4, 4), 0);
  EXPECT_EQ(share.held_before(6, 4), 2);
  EXPECT_EQ(share.held_before(12, 4), 4);
  EXPECT_EQ(share.held_before(16, 4), 8);
}

TEST(PageShare, PositionsAreDealtOnceAndInOrder) {
  for (const int64_t ranks : {1, 2, 3, 4, 8}) {
    for (const int64_t block : {1, 2, 32}) {
      std::vector<int64_t> held(static_cast<size_t>(ranks));
      for (int64_t position = 0; position < 300; ++position) {
        for (int64_t rank = 0; rank < ranks; ++rank) {
          const PageShare share{rank, ranks};
          int64_t& count = held[static_cast<size_t>(rank)];
          ASSERT_EQ(share.held_before(position, block), count) << position << " of rank " << rank << '/' << ranks;
          ASSERT_EQ(share.holds_page(position / block), rank == position / block % ranks);
          count += share.holds_page(position / block) ? 1 : 0;
          ASSERT_EQ(share.held_before(position + 1, block), count);
        }
      }
      for (int64_t pages = 0; pages < 40; ++pages)
        for (int64_t rank = 0; rank < ranks; ++rank)
          ASSERT_EQ((PageShare{rank, ranks}.pages_before(pages)) * block,
                    (PageShare{rank, ranks}.held_before(pages * block, block)));
    }
  }
}

// A rank's share of a long sequence is one part of `ranks`, to within a page.
TEST(PageShare, SharesAreEven) {
  for (const int64_t ranks : {2, 3, 4, 8})
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const int64_t held = PageShare{rank, ranks}.held_before(10'000, 32);
      EXPECT_LE(held, 10'000 / ranks + 32);
      EXPECT_GE(held, 10'000 / ranks - 32);
    }
}

}  // namespace
}  // namespace shoal
