// SPDX-License-Identifier: Apache-2.0
// MappedFile: a whole file, mapped read-only for as long as the object lives; the bytes keep their address when the
// object is moved. The file must not shrink while it is mapped (the kernel would end the process); nothing here writes
// or locks.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace shoal {

class MappedFile {
 public:
  // Error: the path and why it cannot be read. An empty file maps to an empty span.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace shoal
