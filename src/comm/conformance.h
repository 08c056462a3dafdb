// SPDX-License-Identifier: Apache-2.0
// The conformance suite of Comm: what every transport must do, whatever carries its bytes. The cases are CommConformance's TEST_Ps in
// conformance_*_test.cc; a transport's own test instantiates them (thread/thread_world_test.cc):
//   INSTANTIATE_TEST_SUITE_P(Thread, CommConformance, testing::Values(thread_transport()), transport_name);
// For tests only.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/comm.h"
#include "tensor/raw.h"

namespace shoal::comm_test {

using std::chrono::milliseconds;

// A world as one of its ranks sees it.
class Peer {
 public:
  virtual ~Peer() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::unique_ptr<Comm> group(const std::vector<int>& ranks, const std::string& name) = 0;

  std::unique_ptr<Comm> all() {
    std::vector<int> ranks(static_cast<size_t>(size()));
    for (int i = 0; i < size(); ++i) ranks[static_cast<size_t>(i)] = i;
    return group(ranks, "all");
  }
};

class TestWorld {
 public:
  virtual ~TestWorld() = default;
  // Runs `body` as every rank at once. result[i]: what rank i ended with; empty if well, "died" after RankDied. An exception of one
  // rank ends the world, with its text as the cause.
  virtual std::vector<std::string> spawn(const std::function<void(Peer&)>& body) = 0;
};

struct Transport {
  std::string name;
  std::function<std::unique_ptr<TestWorld>(int size, milliseconds timeout)> make;
};

inline void PrintTo(const Transport& transport, std::ostream* out) { *out << transport.name; }
inline std::string transport_name(const testing::TestParamInfo<Transport>& info) { return info.param.name; }

// Numbers whose sum depends on the order of addition; the same for the same arguments.
inline float number(uint64_t a, uint64_t b) {
  uint64_t h = (a + 1) * 0x9e3779b97f4a7c15u ^ (b + 1) * 0xc2b2ae3d27d4eb4fu;
  h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9u;
  h ^= h >> 32;
  const float mantissa = static_cast<float>(static_cast<int32_t>(h & 0xffffff) - 0x800000) / 0x800000;
  return mantissa * static_cast<float>(1 << (h >> 24 & 7));
}

inline Tensor make_tensor(DType dtype, const Shape& shape) {
  const auto bytes = static_cast<size_t>(shape.elements()) * dtype_bytes(dtype);
  std::shared_ptr<std::byte[]> memory(new std::byte[bytes]);
  return {dtype, shape, memory};
}

// [rows, columns] inside a wider tensor, so that rows lie apart.
inline Tensor make_strided(DType dtype, int64_t rows, int64_t columns, int64_t gap) {
  return make_tensor(dtype, {rows, columns + gap}).slice_columns(gap / 2, gap / 2 + columns);
}

// Element (row, column) -> f(row, column), for a 2-D f32 tensor of any stride.
template <typename F>
void fill(const Tensor& tensor, F&& f) {
  for (int64_t r = 0; r < tensor.rows(); ++r) {
    for (int64_t c = 0; c < tensor.row_elements(); ++c) raw_row<float>(tensor, r)[c] = f(r, c);
  }
}

template <typename F>
bool equals(const Tensor& tensor, F&& f) {
  for (int64_t r = 0; r < tensor.rows(); ++r) {
    for (int64_t c = 0; c < tensor.row_elements(); ++c) {
      const float expected = f(r, c);
      if (std::memcmp(&raw_row<float>(tensor, r)[c], &expected, sizeof(float)) != 0) return false;
    }
  }
  return true;
}

// Bytes of any type: byte b of row r of rank `rank`.
inline std::byte byte_at(int rank, int64_t row, int64_t b) {
  return static_cast<std::byte>(rank * 89 + row * 31 + b * 7 + (b >> 8));
}

inline void fill_bytes(const Tensor& tensor, int rank) {
  const auto width = static_cast<int64_t>(dtype_bytes(tensor.dtype()));
  for (int64_t r = 0; r < tensor.rows(); ++r) {
    std::byte* row = RawAccess::bytes(tensor) + r * tensor.row_stride() * width;
    for (int64_t b = 0; b < tensor.row_elements() * width; ++b) row[b] = byte_at(rank, r, b);
  }
}

// Whether row `row` of a contiguous tensor, from byte `at`, holds the `count` first bytes of row `source_row` of rank `rank`.
inline bool row_is(const Tensor& tensor, int64_t row, int64_t at, int rank, int64_t source_row, int64_t count) {
  const int64_t stride = tensor.row_stride() * static_cast<int64_t>(dtype_bytes(tensor.dtype()));
  const std::byte* bytes = RawAccess::bytes(tensor) + row * stride + at;
  for (int64_t b = 0; b < count; ++b) {
    if (bytes[b] != byte_at(rank, source_row, b)) return false;
  }
  return true;
}

// The documented order, written down independently: (first bit_ceil(n) / 2) + (the rest), of term(first), term(first + 1), ...
template <typename F>
float tree_oracle(int first, int count, F&& term) {
  if (count == 1) return term(first);
  int left = 1;
  while (left * 2 < count) left *= 2;
  const float sum = tree_oracle(first, left, term);
  return sum + tree_oracle(first + left, count - left, term);
}

class CommConformance : public testing::TestWithParam<Transport> {
 protected:
  static constexpr milliseconds kPatient{60'000};

  std::vector<std::string> spawn(int size, milliseconds timeout, const std::function<void(Peer&)>& body) {
    return GetParam().make(size, timeout)->spawn(body);
  }
  // Every rank must end well.
  void run(int size, const std::function<void(Peer&)>& body) {
    for (const std::string& error : spawn(size, kPatient, body)) EXPECT_EQ(error, "") << "world of " << size;
  }
  // Both with every rank's view of the group of all.
  void run_all(int size, const std::function<void(Comm&)>& body) {
    run(size, [&](Peer& peer) { body(*peer.all()); });
  }
};

}  // namespace shoal::comm_test
