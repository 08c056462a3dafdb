// SPDX-License-Identifier: Apache-2.0
// The safetensors file format: 8 bytes of header length, a JSON header of names, types, shapes and byte ranges, then
// the data. A parsed header is safe to use whatever the file holds: ranges lie inside the data, tile it without hole or
// overlap, and have the size that type and shape ask for. Not here: which tensors a model needs, and conversion of
// values (model/dequant.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace shoal {

enum class StoredType : uint8_t { kF32, kF16, kBF16, kF8E4M3, kU8, kI8, kI32, kI64, kOther };

struct StoredTensor {
  StoredType type = StoredType::kOther;
  std::string type_name;  // as the file says
  std::vector<int64_t> shape;
  std::filesystem::path file;
  std::span<const std::byte> data;  // aligned to nothing
};

// "[2, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

// The tensors of a whole file; `name` stands for it in errors and in StoredTensor::file. Data is not copied.
// Error: one line with the file, the tensor and what was expected. Memory is bounded by what the header really spells
// out.
std::map<std::string, StoredTensor> parse_safetensors(std::span<const std::byte> file,
                                                      const std::filesystem::path& name);

}  // namespace shoal
