// SPDX-License-Identifier: Apache-2.0
#include "cache/page_allocator.h"

#include <gtest/gtest.h>

#include <set>

#include "cache/block_table.h"

namespace shoal {
namespace {

TEST(PageAllocator, GivesLowestFirstAndAllOrNothing) {
  PageAllocator allocator(4, 32);
  std::vector<int32_t> pages;
  ASSERT_TRUE(allocator.allocate(3, pages));
  EXPECT_EQ(pages, (std::vector<int32_t>{0, 1, 2}));
  std::vector<int32_t> more;
  EXPECT_FALSE(allocator.allocate(2, more));
  EXPECT_TRUE(more.empty());
  EXPECT_EQ(allocator.free_pages(), 1);
  allocator.release(std::vector<int32_t>{0, 1});
  ASSERT_TRUE(allocator.allocate(2, more));
  EXPECT_EQ(more, (std::vector<int32_t>{0, 1}));  // used memory again, before page 3
  EXPECT_EQ(allocator.used_pages(), 3);
}

TEST(PageAllocator, DoubleReleaseIsOurBug) {
  PageAllocator allocator(2, 32);
  std::vector<int32_t> pages;
  ASSERT_TRUE(allocator.allocate(1, pages));
  allocator.release(pages);
  EXPECT_DEATH(allocator.release(pages), "internal check failed");
}

TEST(BlockTable, SlotsFollowPages) {
  PageAllocator allocator(8, 4);
  BlockTable first, second;
  ASSERT_TRUE(first.reserve(allocator, 4));
  ASSERT_TRUE(second.reserve(allocator, 5));
  ASSERT_TRUE(first.reserve(allocator, 6));
  EXPECT_EQ(first.pages(), (std::vector<int32_t>{0, 3}));
  EXPECT_EQ(first.slot(3), 3);
  EXPECT_EQ(first.slot(5), 3 * 4 + 1);
  EXPECT_EQ(second.slot(4), 2 * 4);
}

TEST(BlockTable, ReturnsItsPages) {
  PageAllocator allocator(4, 16);
  {
    BlockTable table;
    ASSERT_TRUE(table.reserve(allocator, 33));
    EXPECT_EQ(allocator.used_pages(), 3);
    EXPECT_FALSE(table.reserve(allocator, 65));
    EXPECT_EQ(allocator.used_pages(), 3);
    const BlockTable moved = std::move(table);
    EXPECT_EQ(moved.pages().size(), 3u);
  }
  EXPECT_EQ(allocator.used_pages(), 0);
}

}  // namespace
}  // namespace shoal
