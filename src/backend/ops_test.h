// SPDX-License-Identifier: Apache-2.0
// What the conformance tests of ops share: a fixture that makes one CPU backend (each instruction set of this machine,
// 1 and 3 threads) beside the reference, random data from a fixed seed, strided inputs, and comparisons. Not here:
// cases; they are in ops_*_test.cc, by concern.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "backend/factory.h"
#include "backend/reference/reference_backend.h"

namespace shoal {

inline std::vector<BackendOptions> backends_under_test() {
  std::vector<BackendOptions> list;
  for (const std::string& isa : available_isas())
    for (const int threads : {1, 3}) list.push_back({.device = "cpu", .isa = isa, .threads = threads, .cores = {}});
  return list;
}

inline std::string backend_test_name(const testing::TestParamInfo<BackendOptions>& info) {
  return info.param.isa + "_threads" + std::to_string(info.param.threads);
}

inline void PrintTo(const BackendOptions& options, std::ostream* out) {
  *out << options.isa << ", " << options.threads << " threads";
}

class OpsTest : public testing::TestWithParam<BackendOptions> {
 protected:
  std::vector<float> random(int64_t count, float low = -1.0f, float high = 1.0f) {
    std::uniform_real_distribution<float> distribution(low, high);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = distribution(rng_);
    return values;
  }
  int64_t random_int(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng_); }

  // [rows, columns] with `padding` foreign columns (NaN) on either side of each row.
  static Tensor strided(Backend& backend, const std::vector<float>& values, int64_t rows, int64_t columns,
                        int64_t padding) {
    if (padding == 0) return backend.from_host(std::span<const float>(values), {rows, columns});
    const int64_t wide = columns + 2 * padding;
    std::vector<float> padded(static_cast<size_t>(rows * wide), NAN);
    for (int64_t row = 0; row < rows; ++row)
      std::copy_n(values.begin() + row * columns, columns, padded.begin() + row * wide + padding);
    return backend.from_host(std::span<const float>(padded), {rows, wide}).slice_columns(padding, padding + columns);
  }
  static Tensor vector(Backend& backend, const std::vector<float>& values) {
    return backend.from_host(std::span<const float>(values), {static_cast<int64_t>(values.size())});
  }

  std::unique_ptr<Backend> backend_ = make_backend(GetParam());
  ReferenceBackend reference_;
  std::mt19937 rng_{20240607};
};

// Every element within `tolerance` * max(1, largest expected magnitude).
inline void expect_close(const std::vector<float>& actual, const std::vector<float>& expected, double tolerance,
                         const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double largest = 1.0;
  for (const float value : expected) largest = std::max(largest, std::abs(double{value}));
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_LE(std::abs(double{actual[i]} - double{expected[i]}), tolerance * largest)
        << what << ": element " << i << " is " << actual[i] << ", not " << expected[i];
}

inline void expect_same_bits(const std::vector<float>& actual, const std::vector<float>& expected,
                             const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_EQ(std::memcmp(&actual[i], &expected[i], sizeof(float)), 0)
        << what << ": element " << i << " is " << actual[i] << ", not " << expected[i];
}

#define SHOAL_INSTANTIATE_OPS(Suite) \
  INSTANTIATE_TEST_SUITE_P(Cpu, Suite, testing::ValuesIn(backends_under_test()), backend_test_name)

}  // namespace shoal
