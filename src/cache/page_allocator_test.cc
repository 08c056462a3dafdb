// SPDX-License-Identifier: Apache-2.0
#include "cache/page_allocator.h"

#include <gtest/gtest.h>

#include <set>

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

}  // namespace
}  // namespace shoal
