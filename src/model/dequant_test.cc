// SPDX-License-Identifier: Apache-2.0
#include "model/dequant.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "tensor/dtype.h"
#include "tests/support/make_checkpoint.h"

namespace shoal {
namespace {

using testing_support::TensorToWrite;

StoredMatrix matrix_of(const std::vector<std::byte>& bytes, Encoding encoding, int64_t columns) {
  return {.encoding = encoding, .columns = columns, .values = bytes.data()};
}

template <typename Bits>
std::vector<std::byte> all_bits(int count) {
  std::vector<std::byte> bytes(static_cast<size_t>(count) * sizeof(Bits));
  for (int i = 0; i < count; ++i) {
    const Bits bits = static_cast<Bits>(i);
    std::memcpy(bytes.data() + static_cast<size_t>(i) * sizeof(Bits), &bits, sizeof(Bits));
  }
  return bytes;
}

void expect_same(float actual, double expected, int bits) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(actual)) << "bits " << bits;
  } else {
    EXPECT_EQ(double{actual}, expected) << "bits " << bits;
    EXPECT_EQ(std::signbit(actual), std::signbit(expected)) << "bits " << bits;
  }
}

TEST(Dequant, EveryF16) {
  const std::vector<std::byte> bytes = all_bits<uint16_t>(65536);
  std::vector<float> out(65536);
  read_stored(matrix_of(bytes, Encoding::kF16, 256), {0, 1, 256}, {0, 256}, out);
  for (int i = 0; i < 65536; ++i)
    expect_same(out[static_cast<size_t>(i)], testing_support::f16_value(static_cast<uint16_t>(i)), i);
}

TEST(Dequant, EveryBF16) {
  const std::vector<std::byte> bytes = all_bits<uint16_t>(65536);
  std::vector<float> out(65536);
  read_stored(matrix_of(bytes, Encoding::kBF16, 256), {0, 1, 256}, {0, 256}, out);
  for (int i = 0; i < 65536; ++i)
    expect_same(out[static_cast<size_t>(i)], to_float(BFloat16{static_cast<uint16_t>(i)}), i);
}

TEST(Dequant, EveryF8TimesItsScale) {
  const std::vector<std::byte> bytes = all_bits<uint8_t>(256);
  const float scale = 0.3f;
  StoredMatrix matrix = matrix_of(bytes, Encoding::kF8E4M3, 256);
  matrix.scales = reinterpret_cast<const std::byte*>(&scale);
  matrix.block_rows = matrix.block_columns = 256;
  std::vector<float> out(256);
  read_stored(matrix, {0, 1, 1}, {0, 256}, out);
  for (int i = 0; i < 256; ++i) {
    const auto value = static_cast<float>(testing_support::f8e4m3_value(static_cast<uint8_t>(i)));
    expect_same(out[static_cast<size_t>(i)], value * scale, i);
  }
}

// Worked example of the format: byte 0x72 holds 1 (low nibble 2) then 6 (high nibble 7); exponent byte 128 doubles
// them.
TEST(Dequant, Mxfp4LowNibbleFirst) {
  std::vector<std::byte> values(16, std::byte{0});
  values[0] = std::byte{0x72};
  values[15] = std::byte{0xf1};
  const std::byte scale{128};
  StoredMatrix matrix = matrix_of(values, Encoding::kMxfp4, 32);
  matrix.scales = &scale;
  std::vector<float> out(32);
  read_stored(matrix, {0, 1, 1}, {0, 32}, out);
  EXPECT_EQ(out[0], 2.0f);
  EXPECT_EQ(out[1], 12.0f);
  EXPECT_EQ(out[2], 0.0f);
  EXPECT_EQ(out[30], 1.0f);
  EXPECT_EQ(out[31], -12.0f);
}

TEST(Dequant, EveryMxfp4NibbleAndScale) {
  std::vector<std::byte> values(256 * 16), scales = all_bits<uint8_t>(256);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::byte>(i % 16 | (15 - i % 16) << 4);
  StoredMatrix matrix = matrix_of(values, Encoding::kMxfp4, 32);
  matrix.scales = scales.data();
  std::vector<float> out(256 * 32);
  read_stored(matrix, {0, 1, 256}, {0, 32}, out);
  for (int i = 0; i < 256 * 32; ++i) {
    const int nibble = i % 2 == 0 ? i % 32 / 2 : 15 - i % 32 / 2;
    const double scale = i / 32 == 255 ? NAN : std::ldexp(1.0, i / 32 - 127);
    // Six times 2^127 is infinite in float32, as in every reader that computes in it.
    expect_same(out[static_cast<size_t>(i)],
                static_cast<float>(testing_support::e2m1_value(static_cast<uint8_t>(nibble)) * scale), i);
  }
}

TEST(Dequant, NothingToReadTouchesNothing) {
  read_stored({}, {0, 1, int64_t{1} << 60}, {0, 0}, {});
  read_stored_transposed({}, {0, 1, 0}, {0, 5}, {});
  read_stored_transposed({}, {0, 1, int64_t{1} << 60}, {0, 0}, {});
}

}  // namespace
}  // namespace shoal
