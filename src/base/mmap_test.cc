// SPDX-License-Identifier: Apache-2.0
#include "base/mmap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "base/error.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

fs::path write_file(const std::string& name, const std::string& text) {
  const fs::path path = fs::path(testing::TempDir()) / name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

std::string error_of(const fs::path& path) {
  try {
    MappedFile file(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(MappedFile, HoldsTheBytes) {
  const MappedFile file(write_file("mmap_bytes", "shoal\n\x01 and more"));
  EXPECT_EQ(text_of(file), "shoal\n\x01 and more");
}

TEST(MappedFile, EmptyFileIsAnEmptySpan) { EXPECT_TRUE(MappedFile(write_file("mmap_empty", "")).bytes().empty()); }

TEST(MappedFile, MovingKeepsTheAddress) {
  MappedFile first(write_file("mmap_first", "first"));
  const std::byte* address = first.bytes().data();
  MappedFile second(std::move(first));
  EXPECT_EQ(second.bytes().data(), address);
  MappedFile third(write_file("mmap_third", "third"));
  third = std::move(second);
  EXPECT_EQ(third.bytes().data(), address);
  EXPECT_EQ(text_of(third), "first");
}

TEST(MappedFile, OutlivesTheFilesName) {
  const fs::path path = write_file("mmap_gone", "still here");
  const MappedFile file(path);
  fs::remove(path);
  EXPECT_EQ(text_of(file), "still here");
}

TEST(MappedFile, SaysWhyNot) {
  EXPECT_THAT(error_of("/no/such/file"), testing::StartsWith("/no/such/file: cannot open: "));
  EXPECT_THAT(error_of(testing::TempDir()), testing::HasSubstr("is a directory"));
  EXPECT_THAT(error_of("/dev/null"), testing::HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace shoal
