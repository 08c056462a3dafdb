// SPDX-License-Identifier: Apache-2.0
// Writes safetensors files for tests: values given as floats, stored in any type the engine reads, each rounded to the
// nearest value of that type. Encoders search tables of decoded values, written apart from the engine's decoders, so
// that they can judge them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace shoal::testing_support {

struct TensorToWrite {
  std::string name;
  std::string type;  // as the format spells it, such as "BF16"
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};
using TensorList = std::vector<TensorToWrite>;

TensorToWrite f32_tensor(std::string name, std::vector<int64_t> shape, std::span<const float> values);
TensorToWrite f16_tensor(std::string name, std::vector<int64_t> shape, std::span<const float> values);
TensorToWrite bf16_tensor(std::string name, std::vector<int64_t> shape, std::span<const float> values);
TensorToWrite u8_tensor(std::string name, std::vector<int64_t> shape, std::span<const uint8_t> values);

struct Fp8Options {
  int64_t block_rows = 128;
  int64_t block_columns = 128;
  bool bf16_scales = false;
};
// `values` [rows, columns] -> `name` F8_E4M3 and `name`_scale_inv, each block scaled so that its largest value becomes
// 448.
TensorList fp8_tensors(const std::string& name, int64_t rows, int64_t columns, std::span<const float> values,
                       const Fp8Options& options = {});
// `values` [experts, out, in] -> `name`_blocks U8 [experts, out, in / 32, 16] and `name`_scales U8 [experts, out, in /
// 32].
TensorList mxfp4_tensors(const std::string& name, std::vector<int64_t> experts_out_in, std::span<const float> values);

// Decoded values, by the formats' definitions.
double f16_value(uint16_t bits);
double f8e4m3_value(uint8_t bits);
double e2m1_value(uint8_t bits);

// Tensors one after the other, in the order given.
std::string safetensors_bytes(const TensorList& tensors);
// A file with any header: its length, the text, then `data_bytes` bytes of 0, 1, 2, ...
std::string safetensors_bytes(const std::string& header, size_t data_bytes);
void write_file(const std::filesystem::path& path, const std::string& bytes);
void write_safetensors(const std::filesystem::path& path, const TensorList& tensors);

// `count` values of both signs and several magnitudes, the same for the same seed on every machine.
std::vector<float> random_values(int64_t count, uint64_t seed, float largest = 1.0f);

// A new empty directory, removed with all it holds.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace shoal::testing_support
