// SPDX-License-Identifier: Apache-2.0
// Parses any bytes as a safetensors file and reads a bounded part of every tensor in it, in each arrangement that its
// shape allows. A refusal is an Error; anything else that ends the process is a bug. libFuzzer's entry point.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/checkpoint_reader.h"

namespace shoal {
namespace {

constexpr int64_t kMaxRows = 96, kMaxColumns = 200;

// The first rows and columns, and the last.
void read_corners(const Checkpoint& checkpoint, const MatrixSource& source) {
  for (const std::string& name : checkpoint.names(source)) (void)checkpoint.tensors().count(name);
  if (!checkpoint.problem(source).empty()) return;
  const int64_t rows = std::min(source.out, kMaxRows), columns = std::min(source.in, kMaxColumns);
  std::vector<float> out(static_cast<size_t>(rows * columns));
  checkpoint.read(source, 0, rows, {0, columns}, out);
  checkpoint.read(source, source.out - rows, rows, {source.in - columns, source.in}, out);
}

// Sources of a matrix stored [a, b] of expert `expert`.
void read_matrix(const Checkpoint& checkpoint, MatrixSource source, int64_t a, int64_t b) {
  source.out = a, source.in = b;
  read_corners(checkpoint, source);
  source.out = b, source.in = a, source.transposed = true;
  read_corners(checkpoint, source);
  source.stored_out = b, source.out_begin = b > 1 ? 1 : 0, source.out_step = 2, source.out = b / 2;
  read_corners(checkpoint, source);
}

void read_tensor(const Checkpoint& checkpoint, const std::string& name, const std::vector<int64_t>& shape) {
  MatrixSource source{.tensor = name};
  if (name.ends_with("_blocks") && shape.size() == 4 && shape[0] > 0 && shape[2] < INT64_MAX / 32) {
    source.tensor.resize(name.size() - 7);
    source.expert = shape[0] - 1, source.experts = shape[0];
    read_matrix(checkpoint, source, shape[1], shape[2] * 32);
  } else if (shape.size() == 3 && shape[0] > 0) {
    source.expert = shape[0] - 1, source.experts = shape[0];
    read_matrix(checkpoint, source, shape[1], shape[2]);
  } else if (shape.size() == 2) {
    read_matrix(checkpoint, source, shape[0], shape[1]);
  } else if (shape.size() == 1) {
    source.out = shape[0], source.vector = true;
    read_corners(checkpoint, source);
  }
}

}  // namespace
}  // namespace shoal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace shoal;
  // A copy of its own, so that a read past the end is seen.
  const std::unique_ptr<std::byte[]> file(new std::byte[size]);
  std::copy_n(reinterpret_cast<const std::byte*>(data), size, file.get());
  try {
    CheckpointParts parts{.directory = "fuzz", .fp8_block_rows = 3, .fp8_block_columns = 5};
    parts.tensors = parse_safetensors({file.get(), size}, "fuzz/model.safetensors");
    const std::unique_ptr<Checkpoint> checkpoint = make_checkpoint(std::move(parts));
    for (const auto& [name, tensor] : checkpoint->tensors()) read_tensor(*checkpoint, name, tensor.shape);
  } catch (const Error&) {
  }
  return 0;
}
