// SPDX-License-Identifier: Apache-2.0
// CpuBackend: the ops on one rank's share of a CPU. Each op checks its arguments, then runs kernels of one
// instruction-set path over the rank's threads; it is finished on return. Activations are f32. Definitions:
// cpu_backend_memory.cc, _dense.cc (products), _experts.cc, _elementwise.cc (norms, rope, rows), _attention.cc (cache,
// routers).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/allocator.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/thread_pool.h"
#include "backend/factory.h"
#include "backend/ops.h"

namespace shoal {

struct GemmKernels;

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options);
  ~CpuBackend() override;

  std::string name() const override;
  DType activation() const override { return DType::kF32; }

  Tensor empty(DType dtype, const Shape& shape) override;
  Tensor zeros(DType dtype, const Shape& shape) override;
  Tensor kept_zeros(DType dtype, const Shape& shape) override;
  Tensor from_host(std::span<const float> values, const Shape& shape) override;
  Tensor from_host(std::span<const int32_t> values, const Shape& shape) override;
  void write_rows_from(const Tensor& tensor, int64_t row, int64_t count, const HostRows& values) override;
  std::vector<float> to_host(const Tensor& tensor) override;
  std::vector<int32_t> to_host_ids(const Tensor& tensor) override;

  Matrix new_matrix(const MatrixSpec& spec) override;
  int64_t matrix_bytes(const MatrixSpec& spec) const override;
  void fill_rows_from(const Matrix& matrix, int64_t row, int64_t count, const HostRows& values) override;
  void copy_matrix(const Matrix& from, const Matrix& to, int64_t begin, int64_t bytes) override;

  Tensor matmul(const Tensor& x, const Matrix& w, const Tensor& bias) override;
  Tensor matmul_partial(const Tensor& x, const Matrix& w) override;
  Tensor gate_up(const Tensor& x, const Matrix& w, const GateSpec& gate) override;
  Tensor matmul_heads(const Tensor& x, std::span<const Matrix> w) override;

  Tensor embedding(std::span<const int32_t> ids, const Matrix& w, Range vocab) override;
  void add(const Tensor& x, const Tensor& y) override;
  void add_bias(const Tensor& x, const Tensor& bias) override;
  Tensor rms_norm(const Tensor& x, const Tensor& weight, float epsilon) override;
  void rms_norm_inplace(const Tensor& x, const Tensor& weight, float epsilon) override;
  void rope(const Tensor& x, std::span<const int32_t> positions, const RopeTable& table, int64_t first) override;
  void scale_rows(const Tensor& x, std::span<const float> factors) override;
  Tensor concat_columns(std::span<const Tensor> parts) override;
  Tensor gather_rows(const Tensor& x, std::span<const int32_t> rows) override;
  void scatter_rows(const Tensor& x, std::span<const int32_t> rows, const Tensor& values) override;
  Tensor lookup(const Tensor& ids, const Tensor& table) override;

  void kv_write(const KvLayer& layer, const Tensor& k, const Tensor& v, std::span<const int32_t> slots) override;
  void kv_copy(const KvLayer& layer, int32_t from, int32_t to, int64_t tokens) override;
  Tensor kv_read(const KvLayer& layer, const SequenceSpan& span) override;
  Tensor attention(const Tensor& q, const KvLayer& layer, std::span<const SequenceSpan> spans,
                   const AttentionSpec& spec) override;

  AttentionPart attention_part(const Tensor& q, const KvLayer& layer, std::span<const SequenceSpan> spans,
                               const AttentionSpec& spec, const PageShare& share) override;
  Tensor attention_join(std::span<const AttentionPart> parts, const Tensor& sinks) override;

  Routing route(const Tensor& logits, const RouterSpec& spec) override;
  Tensor experts_sum(const ExpertBatch& batch, const ExpertMatrices& experts) override;
  Tensor experts_rows(const ExpertBatch& batch, const ExpertMatrices& experts) override;
  Tensor weigh_picks(const Tensor& picks, const Tensor& weights) override;
  void add_weighted_rows(const Tensor& x, const Tensor& ids, const Tensor& weights, const Tensor& table) override;

 private:
  Isa isa_;
  const GemmKernels& gemm_;
  ThreadPool pool_;
  std::shared_ptr<Allocator> allocator_;  // shared with tensors, which may outlive the backend
  Arena arena_;                           // matrices
};

}  // namespace shoal
