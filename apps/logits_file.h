// SPDX-License-Identifier: Apache-2.0
// LogitsFile: a safetensors file of F32 tensors `logits_{i}` [tokens_i, vocab], written in pieces from any threads. It appears under its
// name only when it is complete: until then it is a temporary file beside it, which is removed if anything fails.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace shoal {

class LogitsFile {
 public:
  // Error if the file cannot be made there.
  LogitsFile(std::filesystem::path path, const std::vector<int64_t>& tokens, int64_t vocab);
  ~LogitsFile();
  LogitsFile(const LogitsFile&) = delete;
  LogitsFile& operator=(const LogitsFile&) = delete;

  // Rows [first, ...) of tensor `index`, f32 [rows, vocab]. Thread-safe for different rows.
  void write(size_t index, int64_t first, std::span<const float> rows);
  void commit();

 private:
  void write_at(int64_t offset, const void* data, size_t bytes);

  std::filesystem::path path_;
  std::string temporary_;
  int64_t vocab_;
  std::vector<int64_t> begins_;  // of each tensor, from the start of the file
  int file_ = -1;
};

}  // namespace shoal
