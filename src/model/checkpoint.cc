// SPDX-License-Identifier: Apache-2.0
#include "model/checkpoint.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/json_file.h"
#include "model/checkpoint_reader.h"
#include "model/dequant.h"

namespace shoal {
namespace {

constexpr int64_t kMaxFp8Block = int64_t{1} << 20;

int64_t blocks(int64_t size, int64_t block) { return size / block + (size % block != 0 ? 1 : 0); }

std::optional<Encoding> plain_encoding(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return Encoding::kF32;
    case StoredType::kF16:
      return Encoding::kF16;
    case StoredType::kBF16:
      return Encoding::kBF16;
    case StoredType::kF8E4M3:
      return Encoding::kF8E4M3;
    default:
      return std::nullopt;
  }
}

// One tensor of the file, or what is wrong with it.
struct Found {
  const StoredTensor* tensor = nullptr;
  std::string problem;
};

// The matrix a source lies in, or what is wrong.
struct StoredView {
  StoredMatrix matrix = {};
  bool transposed = false;
  std::string problem = {};
};

class StoredCheckpoint final : public Checkpoint {
 public:
  explicit StoredCheckpoint(CheckpointParts parts) : parts_(std::move(parts)) {}

  const std::map<std::string, StoredTensor>& tensors() const override { return parts_.tensors; }

  std::vector<std::string> names(const MatrixSource& source) const override {
    if (is_mxfp4(source)) return {source.tensor + "_blocks", source.tensor + "_scales"};
    const StoredTensor* tensor = find(source.tensor);
    if (tensor && tensor->type == StoredType::kF8E4M3) return {source.tensor, source.tensor + "_scale_inv"};
    return {source.tensor};
  }

  std::string problem(const MatrixSource& source) const override { return view(source).problem; }

  void read(const MatrixSource& source, int64_t row, int64_t count, Range columns,
            std::span<float> out) const override {
    CHECK(0 <= row && 0 <= count && row + count <= source.out);
    CHECK(0 <= columns.begin && columns.begin <= columns.end && columns.end <= source.in);
    const StoredView view = this->view(source);
    if (!view.problem.empty()) throw Error(ErrorKind::kInvalid, view.problem);
    const StridedRange rows{source.out_begin + row * source.out_step, source.out_step, count};
    view.transposed ? read_stored_transposed(view.matrix, rows, columns, out)
                    : read_stored(view.matrix, rows, columns, out);
  }

  std::optional<HostRows> stored_rows(const MatrixSource& source, int64_t row, Range columns) const override {
    const StoredView view = this->view(source);
    const StoredMatrix& matrix = view.matrix;
    const bool plain = matrix.encoding == Encoding::kF32 || matrix.encoding == Encoding::kBF16;
    if (!view.problem.empty() || view.transposed || !plain) return std::nullopt;
    const DType dtype = matrix.encoding == Encoding::kF32 ? DType::kF32 : DType::kBF16;
    const auto element = static_cast<int64_t>(dtype_bytes(dtype));
    const int64_t first = (source.out_begin + row * source.out_step) * matrix.columns + columns.begin;
    return HostRows{matrix.values + first * element, source.out_step * matrix.columns * element, dtype};
  }

 private:
  const StoredTensor* find(const std::string& name) const {
    const auto place = parts_.tensors.find(name);
    return place == parts_.tensors.end() ? nullptr : &place->second;
  }

  bool is_mxfp4(const MatrixSource& source) const {
    return !source.vector && !find(source.tensor) && find(source.tensor + "_blocks");
  }

  StoredView view(const MatrixSource& source) const {
    const int64_t stored_out = source.stored_out > 0 ? source.stored_out : source.out;
    CHECK(source.out >= 0 && source.in >= 0 && source.out_begin >= 0 && source.out_step >= 1);
    CHECK(source.out == 0 || source.out_begin + (source.out - 1) * source.out_step < stored_out);
    CHECK(source.expert < 0 || source.expert < source.experts);
    CHECK(!source.vector || source.in == 1);
    return is_mxfp4(source) ? mxfp4_view(source, stored_out) : plain_view(source, stored_out);
  }

  // The tensor, if it has the types (as `wanted` words them) and shape that are expected.
  template <typename Predicate>
  Found expect(const std::string& name, const std::vector<int64_t>& shape, Predicate right_type,
               const char* wanted) const {
    const std::string expected = std::string("expected ") + wanted + " " + shape_text(shape);
    const StoredTensor* tensor = find(name);
    const std::string quoted = ": tensor '" + printable(name) + "' ";
    if (!tensor) return {nullptr, parts_.directory.string() + quoted + "is missing, " + expected};
    if (right_type(tensor->type) && tensor->shape == shape) return {tensor, ""};
    return {nullptr, tensor->file.string() + quoted + "is " + tensor->type_name + " " + shape_text(tensor->shape) +
                         ", " + expected};
  }

  // A vector is read as the one row of a transposed matrix.
  StoredView plain_view(const MatrixSource& source, int64_t stored_out) const {
    const bool transposed = source.transposed || source.vector;
    const int64_t rows = transposed ? source.in : stored_out;
    const int64_t columns = transposed ? stored_out : source.in;
    std::vector<int64_t> shape;
    if (source.expert >= 0) shape.push_back(source.experts);
    if (!source.vector) shape.push_back(rows);
    shape.push_back(columns);
    const auto weight = [&](StoredType type) {
      return plain_encoding(type) && !(source.vector && type == StoredType::kF8E4M3);
    };
    const Found found =
        expect(source.tensor, shape, weight, source.vector ? "F32, F16 or BF16" : "F32, F16, BF16 or F8_E4M3");
    if (!found.tensor) return {.problem = found.problem};
    StoredView view{.matrix = {.encoding = *plain_encoding(found.tensor->type), .columns = columns},
                    .transposed = transposed};
    const auto per_expert =
        static_cast<int64_t>(found.tensor->data.size()) / std::max<int64_t>(1, expert_count(source));
    view.matrix.values = found.tensor->data.data() + std::max<int64_t>(0, source.expert) * per_expert;
    if (view.matrix.encoding == Encoding::kF8E4M3) view.problem = add_fp8_scales(source, rows, view.matrix);
    return view;
  }

  static int64_t expert_count(const MatrixSource& source) { return source.expert >= 0 ? source.experts : 1; }

  // Scales belong to blocks of the matrix as stored.
  std::string add_fp8_scales(const MatrixSource& source, int64_t rows, StoredMatrix& matrix) const {
    const std::string name = source.tensor + "_scale_inv";
    std::vector<int64_t> shape;
    if (source.expert >= 0) shape.push_back(source.experts);
    shape.push_back(blocks(rows, parts_.fp8_block_rows));
    shape.push_back(blocks(matrix.columns, parts_.fp8_block_columns));
    const auto scale = [](StoredType type) { return type == StoredType::kF32 || type == StoredType::kBF16; };
    const Found found = expect(name, shape, scale, "F32 or BF16");
    if (!found.tensor)
      return found.problem + " (scales of F8_E4M3 weights in blocks of " + std::to_string(parts_.fp8_block_rows) +
             " x " + std::to_string(parts_.fp8_block_columns) + ")";
    const auto per_expert =
        static_cast<int64_t>(found.tensor->data.size()) / std::max<int64_t>(1, expert_count(source));
    matrix.scales = found.tensor->data.data() + std::max<int64_t>(0, source.expert) * per_expert;
    matrix.bf16_scales = found.tensor->type == StoredType::kBF16;
    matrix.block_rows = parts_.fp8_block_rows;
    matrix.block_columns = parts_.fp8_block_columns;
    return "";
  }

  // Blocks are stored [stored_out, in / 32, 16] even where the unquantised tensor would be [in, stored_out].
  StoredView mxfp4_view(const MatrixSource& source, int64_t stored_out) const {
    const std::string name = source.tensor + "_blocks";
    if (source.in % kMxBlock != 0)
      return {.problem = find(name)->file.string() + ": tensor '" + printable(name) + "' cannot hold rows of " +
                         std::to_string(source.in) + " values, expected a multiple of " + std::to_string(kMxBlock)};
    std::vector<int64_t> shape;
    if (source.expert >= 0) shape.push_back(source.experts);
    shape.insert(shape.end(), {stored_out, source.in / kMxBlock});
    const auto bytes = [](StoredType type) { return type == StoredType::kU8; };
    const Found scales = expect(source.tensor + "_scales", shape, bytes, "U8");
    shape.push_back(kMxBlockBytes);
    const Found values = expect(name, shape, bytes, "U8");
    if (!values.tensor) return {.problem = values.problem};
    if (!scales.tensor) return {.problem = scales.problem};
    const int64_t first = std::max<int64_t>(0, source.expert) * stored_out * (source.in / kMxBlock);
    return {.matrix = {.encoding = Encoding::kMxfp4,
                       .columns = source.in,
                       .values = values.tensor->data.data() + first * kMxBlockBytes,
                       .scales = scales.tensor->data.data() + first}};
  }

  CheckpointParts parts_;
};

}  // namespace

std::optional<HostRows> Checkpoint::stored_rows(const MatrixSource&, int64_t, Range) const { return std::nullopt; }

std::unique_ptr<Checkpoint> make_checkpoint(CheckpointParts parts) {
  const int64_t rows = parts.fp8_block_rows, columns = parts.fp8_block_columns;
  if (rows < 1 || columns < 1 || rows > kMaxFp8Block || columns > kMaxFp8Block)
    throw Error(ErrorKind::kInvalid, parts.directory.string() + ": FP8 blocks of " + std::to_string(rows) + " x " +
                                         std::to_string(columns) + ", expected 1 to " + std::to_string(kMaxFp8Block) +
                                         " each (quantization_config.weight_block_size)");
  return std::make_unique<StoredCheckpoint>(std::move(parts));
}

}  // namespace shoal
