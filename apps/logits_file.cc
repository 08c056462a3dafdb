// SPDX-License-Identifier: Apache-2.0
#include "apps/logits_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "base/error.h"

namespace shoal {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

LogitsFile::LogitsFile(std::filesystem::path path, const std::vector<int64_t>& tokens, int64_t vocab)
    : path_(std::move(path)), temporary_(path_.string() + ".XXXXXX"), vocab_(vocab) {
  nlohmann::ordered_json header;
  int64_t offset = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int64_t bytes = tokens[i] * vocab * static_cast<int64_t>(sizeof(float));
    header[fmt::format("logits_{}", i)] = {
        {"dtype", "F32"}, {"shape", {tokens[i], vocab}}, {"data_offsets", {offset, offset + bytes}}};
    begins_.push_back(offset);
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  for (int64_t& begin : begins_) begin += static_cast<int64_t>(sizeof length + length);
  file_ = mkstemp(temporary_.data());
  if (file_ < 0)
    throw Error(ErrorKind::kInvalid,
                fmt::format("{} cannot be written: {}; give a place that can", path_.string(), std::strerror(errno)));
  const mode_t mask = umask(0);  // mkstemp makes it private; a new file would follow the mask
  umask(mask);
  fchmod(file_, 0666 & ~mask);
  write_at(0, &length, sizeof length);
  write_at(sizeof length, text.data(), text.size());
}

LogitsFile::~LogitsFile() {
  if (file_ < 0) return;
  close(file_);
  unlink(temporary_.c_str());
}

void LogitsFile::write(size_t index, int64_t first, std::span<const float> rows) {
  write_at(begins_[index] + first * vocab_ * static_cast<int64_t>(sizeof(float)), rows.data(), rows.size_bytes());
}

void LogitsFile::commit() {
  const int file = std::exchange(file_, -1);
  if (fsync(file) == 0 && close(file) == 0 && std::rename(temporary_.c_str(), path_.c_str()) == 0) return;
  const std::string reason = std::strerror(errno);
  unlink(temporary_.c_str());
  throw std::runtime_error(fmt::format("{} could not be completed: {}", path_.string(), reason));
}

void LogitsFile::write_at(int64_t offset, const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = pwrite(file_, from, bytes, offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0)
      throw std::runtime_error(fmt::format("{} could not be written: {}", temporary_, std::strerror(errno)));
    from += written;
    offset += written;
    bytes -= static_cast<size_t>(written);
  }
}

}  // namespace shoal
