// SPDX-License-Identifier: Apache-2.0
// Checkpoint: the tensors of a model directory, memory-mapped safetensors in one file or several (index or not), read
// as float rows of a logical [out, in] matrix whatever the storage: F32, F16, BF16, FP8 E4M3 with block scales, MXFP4;
// transposed or stacked by expert. Immutable after open; reads are thread-safe. Every error names file, tensor and what
// was expected.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/matrix.h"
#include "model/safetensors.h"
#include "tensor/dim.h"

namespace shoal {

// Where a logical matrix [out, in] (or vector: in = 1) lies in a checkpoint.
struct MatrixSource {
  std::string tensor;  // full name, such as "model.layers.0.mlp.gate_proj.weight"
  int64_t out = 0;
  int64_t in = 1;
  int64_t expert = -1;  // >= 0: index into the leading dimension of a stacked tensor of `experts` entries
  int64_t experts = 0;
  bool transposed = false;  // stored [in, stored_out] instead of [stored_out, in]
  int64_t stored_out = 0;   // rows as stored, 0: same as out
  int64_t out_begin = 0;    // logical row r is stored row out_begin + r * out_step
  int64_t out_step = 1;
  bool vector = false;  // stored [stored_out] (with `expert`: [experts, stored_out])
};

class Checkpoint {
 public:
  // Maps every shard and checks every header: those that model.safetensors.index.json names, else model.safetensors,
  // else every
  // *.safetensors. `fp8_block`: rows and columns of an FP8 scale block.
  static std::unique_ptr<Checkpoint> open(const std::filesystem::path& model_dir, int64_t fp8_block_rows = 128,
                                          int64_t fp8_block_columns = 128);
  virtual ~Checkpoint() = default;

  virtual const std::map<std::string, StoredTensor>& tensors() const = 0;
  // Names that `source` reads, whether they are there or not: the tensor, or tensor + "_scale_inv" beside it, or tensor
  // + "_blocks" and "_scales" instead of it.
  virtual std::vector<std::string> names(const MatrixSource& source) const = 0;
  // Empty if the source can be read, else one line: file, tensor, what is there and what was expected.
  virtual std::string problem(const MatrixSource& source) const = 0;
  // Logical rows [row, row + count) x columns -> out f32 [count, columns.size()]. Quantised values by global index.
  // Throws Error if problem(source) is not empty.
  virtual void read(const MatrixSource& source, int64_t row, int64_t count, Range columns,
                    std::span<float> out) const = 0;
  // The same values where they lie, if the file has them as rows of F32 or BF16: what needs no copy on the way to its place.
  virtual std::optional<HostRows> stored_rows(const MatrixSource& source, int64_t row, Range columns) const;
};

}  // namespace shoal
