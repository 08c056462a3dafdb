// SPDX-License-Identifier: Apache-2.0
#include "tests/support/make_checkpoint.h"

#include <stdlib.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <utility>

namespace shoal::testing_support {
namespace {

// All finite values of a small float format, ascending, with their bits.
template <typename Bits>
std::vector<std::pair<double, Bits>> ordered_values(int count, double (*value)(Bits)) {
  std::vector<std::pair<double, Bits>> table;
  for (int i = 0; i < count; ++i)
    if (const double v = value(static_cast<Bits>(i)); std::isfinite(v)) table.emplace_back(v, static_cast<Bits>(i));
  std::sort(table.begin(), table.end());
  return table;
}

template <typename Bits>
Bits nearest(const std::vector<std::pair<double, Bits>>& table, double value) {
  auto above = std::lower_bound(table.begin(), table.end(), std::pair<double, Bits>{value, Bits{0}});
  if (above == table.end()) return table.back().second;
  if (above == table.begin()) return above->second;
  const auto below = std::prev(above);
  const double down = value - below->first, up = above->first - value;
  if (down != up) return down < up ? below->second : above->second;
  return below->second % 2 == 0 ? below->second : above->second;  // to even
}

uint8_t nearest_f8(double value) {
  static const auto kTable = ordered_values<uint8_t>(256, f8e4m3_value);
  return nearest(kTable, value);
}

uint8_t nearest_e2m1(double value) {
  static const auto kTable = ordered_values<uint8_t>(16, e2m1_value);
  return nearest(kTable, value);
}

uint16_t bf16_bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <typename T>
void append(std::vector<std::byte>& bytes, T value) {
  const auto* from = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), from, from + sizeof(T));
}

template <typename Encode>
TensorToWrite encoded(std::string name, std::string type, std::vector<int64_t> shape, std::span<const float> values,
                      Encode encode) {
  int64_t expected = 1;
  for (int64_t dimension : shape) expected *= dimension;
  if (expected != static_cast<int64_t>(values.size())) throw std::logic_error(name + ": shape and values disagree");
  TensorToWrite tensor{std::move(name), std::move(type), std::move(shape), {}};
  for (float value : values) append(tensor.bytes, encode(value));
  return tensor;
}

// One block of 32 values: the exponent byte, then the pairs. As the format's own converters, the power of two is that
// of the largest value over that of 4 (the largest power of two of E2M1).
uint8_t encode_mx_block(std::span<const float> values, std::vector<std::byte>& pairs) {
  float largest = 0;
  for (float value : values) largest = std::max(largest, std::fabs(value));
  const int exponent = largest == 0 ? 0 : std::clamp(std::ilogb(largest) - 2, -127, 127);
  for (size_t i = 0; i < values.size(); i += 2) {
    const uint8_t low = nearest_e2m1(std::ldexp(double{values[i]}, -exponent));
    const uint8_t high = nearest_e2m1(std::ldexp(double{values[i + 1]}, -exponent));
    append(pairs, static_cast<uint8_t>(low | (high << 4)));
  }
  return static_cast<uint8_t>(exponent + 127);
}

}  // namespace

double f16_value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa ? std::numeric_limits<double>::quiet_NaN() : sign * INFINITY;
  return sign * (exponent == 0 ? mantissa / 1024.0 * std::pow(2.0, -14)
                               : (1 + mantissa / 1024.0) * std::pow(2.0, exponent - 15));
}

double f8e4m3_value(uint8_t bits) {
  const int exponent = (bits >> 3) & 15, mantissa = bits & 7;
  const double sign = bits & 0x80 ? -1.0 : 1.0;
  if (exponent == 15 && mantissa == 7) return std::numeric_limits<double>::quiet_NaN();
  return sign *
         (exponent == 0 ? mantissa / 8.0 * std::pow(2.0, -6) : (1 + mantissa / 8.0) * std::pow(2.0, exponent - 7));
}

double e2m1_value(uint8_t bits) {
  const int exponent = (bits >> 1) & 3, mantissa = bits & 1;
  const double sign = bits & 8 ? -1.0 : 1.0;
  return sign * (exponent == 0 ? mantissa * 0.5 : (1 + mantissa * 0.5) * std::pow(2.0, exponent - 1));
}

TensorToWrite f32_tensor(std::string name, std::vector<int64_t> shape, std::span<const float> values) {
  return encoded(std::move(name), "F32", std::move(shape), values, [](float value) { return value; });
}

TensorToWrite f16_tensor(std::string name, std::vector<int64_t> shape, std::span<const float> values) {
  static const auto kTable = ordered_values<uint16_t>(65536, f16_value);
  return encoded(std::move(name), "F16", std::move(shape), values, [](float value) { return nearest(kTable, value); });
}

TensorToWrite bf16_tensor(std::string name, std::vector<int64_t> shape, std::span<const float> values) {
  return encoded(std::move(name), "BF16", std::move(shape), values, bf16_bits);
}

TensorToWrite u8_tensor(std::string name, std::vector<int64_t> shape, std::span<const uint8_t> values) {
  TensorToWrite tensor{std::move(name), "U8", std::move(shape), {}};
  for (uint8_t value : values) append(tensor.bytes, value);
  return tensor;
}

TensorList fp8_tensors(const std::string& name, int64_t rows, int64_t columns, std::span<const float> values,
                       const Fp8Options& options) {
  const int64_t scale_rows = (rows + options.block_rows - 1) / options.block_rows;
  const int64_t scale_columns = (columns + options.block_columns - 1) / options.block_columns;
  const auto scale_of = [&](int64_t r, int64_t c) {
    return r / options.block_rows * scale_columns + c / options.block_columns;
  };
  std::vector<float> scales(static_cast<size_t>(scale_rows * scale_columns), 0.0f);
  for (int64_t i = 0; i < rows * columns; ++i) {
    float& scale = scales[static_cast<size_t>(scale_of(i / columns, i % columns))];
    scale = std::max(scale, std::fabs(values[static_cast<size_t>(i)]) / 448.0f);
  }
  for (float& scale : scales) {
    if (scale == 0) scale = 1;
    if (options.bf16_scales) scale = std::bit_cast<float>(uint32_t{bf16_bits(scale)} << 16);
  }
  TensorToWrite weight{name, "F8_E4M3", {rows, columns}, {}};
  for (int64_t i = 0; i < rows * columns; ++i)
    append(weight.bytes, nearest_f8(double{values[static_cast<size_t>(i)]} /
                                    scales[static_cast<size_t>(scale_of(i / columns, i % columns))]));
  const auto make_scales = options.bf16_scales ? bf16_tensor : f32_tensor;
  return {weight, make_scales(name + "_scale_inv", {scale_rows, scale_columns}, scales)};
}

TensorList mxfp4_tensors(const std::string& name, std::vector<int64_t> shape, std::span<const float> values) {
  if (shape.size() != 3 || shape[2] % 32 != 0)
    throw std::logic_error(name + ": expected [experts, out, in], in / 32 whole");
  TensorToWrite blocks{name + "_blocks", "U8", {shape[0], shape[1], shape[2] / 32, 16}, {}};
  TensorToWrite scales{name + "_scales", "U8", {shape[0], shape[1], shape[2] / 32}, {}};
  for (size_t i = 0; i < values.size(); i += 32)
    append(scales.bytes, encode_mx_block(values.subspan(i, 32), blocks.bytes));
  return {blocks, scales};
}

std::string safetensors_bytes(const TensorList& tensors) {
  std::string header = R"({"__metadata__":{"format":"pt"})", data;
  for (const TensorToWrite& tensor : tensors) {
    header += ",\"" + tensor.name + R"(":{"dtype":")" + tensor.type + R"(","shape":[)";
    for (size_t i = 0; i < tensor.shape.size(); ++i) header += (i ? "," : "") + std::to_string(tensor.shape[i]);
    header += "],\"data_offsets\":[" + std::to_string(data.size()) + ",";
    data.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
    header += std::to_string(data.size()) + "]}";
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return safetensors_bytes(header, 0) + data;
}

std::string safetensors_bytes(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes += header;
  for (size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
  return bytes;
}

void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

void write_safetensors(const std::filesystem::path& path, const TensorList& tensors) {
  write_file(path, safetensors_bytes(tensors));
}

std::vector<float> random_values(int64_t count, uint64_t seed, float largest) {
  std::vector<float> values(static_cast<size_t>(count));
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (float& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto bits = static_cast<uint32_t>(state >> 32);
    const float unit = static_cast<float>(static_cast<int32_t>(bits >> 8) - (1 << 23)) / static_cast<float>(1 << 23);
    value = std::ldexp(unit, -static_cast<int>(bits % 8)) * largest;
  }
  return values;
}

TempDirectory::TempDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "shoal_test_XXXXXX").string();
  if (!::mkdtemp(name.data())) throw std::runtime_error("cannot make " + name);
  path_ = name;
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace shoal::testing_support
