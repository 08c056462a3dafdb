// SPDX-License-Identifier: Apache-2.0
// WeightTable: every weight of one rank, declared once by its dimensions; the slice to read, its memory and its size
// all follow from the declaration. Declared before anything is read, so the same code answers `explain`, checks a
// checkpoint and loads.
//
// The four results, in Megatron's words: *column* (out cut), *row* (in cut), *replicated* (no cut), *expert* (whole, or
// cut by moe_tp). Handles are pointers that stay valid for the table's life; what they point to is defined after
// load().
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "backend/ops.h"
#include "model/checkpoint.h"
#include "model/model.h"
#include "parallel/cuts.h"
#include "parallel/mesh.h"

namespace shoal {

// Rows of one stored tensor; several of them make a fused weight, each sliced by itself and then joined.
struct WeightPart {
  MatrixSource source;
  Range rows;  // of the logical matrix: this rank's
};

class WeightTable {
 public:
  WeightTable(const Mesh& mesh, int rank, DType compute) : mesh_(&mesh), rank_(rank), compute_(compute) {}
  WeightTable(const WeightTable&) = delete;
  WeightTable& operator=(const WeightTable&) = delete;

  // This rank's part of a dimension.
  Range local(const Dim& dim) const { return slice(dim, *mesh_, rank_); }
  DType compute() const { return compute_; }
  const Mesh& mesh() const { return *mesh_; }

  // [sum of parts' rows, columns] of the sources.
  const Matrix* matrix(MatrixKind kind, std::vector<WeightPart> parts, Range columns, DType dtype);
  const Tensor* vector(std::vector<WeightPart> parts);  // f32 [sum of rows]
  const Tensor* table(WeightPart part);                 // f32 [rows, in]

  // Named declarations: weight `name` + ".weight" is [out, in].
  WeightPart part(const std::string& name, const Dim& out, const Dim& in) const;
  WeightPart vector_part(const std::string& name, const Dim& dim) const;
  const Matrix* column(const std::string& name, const Dim& out, const Dim& in);
  const Matrix* row(const std::string& name, const Dim& out, const Dim& in);
  const Tensor* vector(const std::string& full_name, const Dim& dim) { return vector({vector_part(full_name, dim)}); }

  // What `declare` declares is room of that shape, which load() allocates and leaves as it is.
  void declare_room(const std::function<void()>& declare);

  int64_t bytes(const Backend& backend) const;  // as load() will allocate
  std::vector<MatrixSource> sources() const;
  // Allocates everything and fills nothing.
  void reserve(Backend& backend);
  // Allocates and fills everything with up to `threads` threads.
  void load(const Checkpoint& checkpoint, Backend& backend, int threads, LoadProgress& progress);

 private:
  struct MatrixEntry {
    MatrixSpec spec;
    std::vector<WeightPart> parts;
    Range columns;
    Matrix matrix;
  };
  struct TensorEntry {
    std::vector<WeightPart> parts;
    Shape shape;
    Tensor tensor;  // f32
  };
  struct Job;
  std::vector<Job> allocate(Backend& backend);

  const Mesh* mesh_;
  int rank_;
  DType compute_;
  bool room_ = false;
  std::deque<MatrixEntry> matrices_;
  std::deque<TensorEntry> tensors_;
};

// Weights of the right shapes made from a seed: a value depends on tensor, row and column only, so that every layout
// has the same model.
std::unique_ptr<Checkpoint> make_dummy_checkpoint(uint64_t seed);

}  // namespace shoal
