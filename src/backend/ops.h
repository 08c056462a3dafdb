// SPDX-License-Identifier: Apache-2.0
// Backend: the list of ops on device tensors; one object per rank, used by that rank's thread only. Implementations: reference/ (plain
// loops, the oracle), cpu/. Ops may be enqueued rather than finished on return, except where a result is host data.
//
// Activations are tensors of `activation()` (f32 on CPUs); products convert their input to the matrix's dtype. The residual stream
// and partial sums are f32. Shapes stand beside each op; [tokens, n] inputs may be column views (any row stride), outputs are contiguous.
// Numerics that every implementation keeps: docs/architecture.md section 4. An output row never depends on other rows, except through
// the sequence that it attends to.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/matrix.h"
#include "backend/specs.h"
#include "base/error.h"
#include "tensor/page_share.h"
#include "tensor/tensor.h"

namespace shoal {

// Weights of the routed experts that live on this rank, by local slot; undefined where a slot is empty.
struct ExpertMatrices {
  std::vector<Matrix> gate_up;       // each [2 * ffn, hidden], kGateUp
  std::vector<Matrix> down;          // each [hidden, ffn], kRow
  std::vector<Tensor> gate_up_bias;  // each f32 [2 * ffn] (gate, then up), or empty
  GateSpec gate;
  bool weight_on_input = false;  // Llama-4: the router's weight scales the expert's input, and 1 its output
};

// Rows for this rank's experts: slots i32 [rows, top_k] local or -1, weights f32 [rows, top_k].
struct ExpertBatch {
  Tensor rows;
  Tensor slots;
  Tensor weights;
};

struct Routing {
  Tensor experts;  // i32 [tokens, top_k], ascending expert id within a token
  Tensor weights;  // f32 [tokens, top_k]
};

// Attention over some of the positions that its rows see, to be joined with the rest: weights are relative to `maxima`, which is minus
// infinity where a row has seen nothing yet.
struct AttentionPart {
  Tensor values;  // f32 [tokens, heads, v_dim], sums of weighted values
  Tensor maxima;  // f32 [tokens, heads], largest scores
  Tensor sums;    // f32 [tokens, heads], sums of weights
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;  // such as "cpu/avx512bf16"
  virtual DType activation() const = 0;

  // --- memory
  virtual Tensor empty(DType dtype, const Shape& shape) = 0;  // uninitialised; reused when released
  virtual Tensor zeros(DType dtype, const Shape& shape) = 0;
  // For what is kept, such as a KV cache: memory comes as parts are first touched, and no more than its bytes.
  virtual Tensor kept_zeros(DType dtype, const Shape& shape) { return zeros(dtype, shape); }
  virtual Tensor from_host(std::span<const float> values, const Shape& shape) = 0;    // f32
  virtual Tensor from_host(std::span<const int32_t> values, const Shape& shape) = 0;  // i32
  // values [count, row elements], f32 or the tensor's own dtype -> rows [row, row + count) of an f32 or bf16 tensor. Thread-safe for
  // disjoint rows.
  virtual void write_rows_from(const Tensor& tensor, int64_t row, int64_t count, const HostRows& values) = 0;
  void write_rows(const Tensor& tensor, int64_t row, int64_t count, std::span<const float> values) {
    CHECK_EQ(static_cast<int64_t>(values.size()), count * tensor.row_elements());
    write_rows_from(tensor, row, count, HostRows::of(values, tensor.row_elements()));
  }
  virtual std::vector<float> to_host(const Tensor& tensor) = 0;        // waits; f32 or bf16
  virtual std::vector<int32_t> to_host_ids(const Tensor& tensor) = 0;  // waits; i32

  // --- weights: allocate (pages are touched by the filling thread), then fill each row once; rows may be filled by several threads
  virtual Matrix new_matrix(const MatrixSpec& spec) = 0;
  virtual int64_t matrix_bytes(const MatrixSpec& spec) const = 0;  // what new_matrix would allocate
  // values [count, in], f32 or the matrix's own dtype: rows [row, row + count) of the matrix. Thread-safe for disjoint rows.
  virtual void fill_rows_from(const Matrix& matrix, int64_t row, int64_t count, const HostRows& values) = 0;
  void fill_rows(const Matrix& matrix, int64_t row, int64_t count, std::span<const float> values) {
    CHECK_EQ(static_cast<int64_t>(values.size()), count * matrix.in());
    fill_rows_from(matrix, row, count, HostRows::of(values, matrix.in()));
  }
  // Bytes [begin, begin + bytes) of a matrix as it lies in memory -> another of the same spec, of any backend object of this kind.
  // Thread-safe for disjoint bytes of `to`; `from` may be in use.
  virtual void copy_matrix(const Matrix& from, const Matrix& to, int64_t begin, int64_t bytes) = 0;

  // --- dense
  virtual Tensor matmul(const Tensor& x, const Matrix& w,
                        const Tensor& bias) = 0;  // x [tokens, in] -> f32 [tokens, out]; bias f32 [out] or undefined
  virtual Tensor matmul_partial(const Tensor& x, const Matrix& w) = 0;  // kRow: this rank's term, f32 [tokens, out]
  virtual Tensor gate_up(const Tensor& x, const Matrix& w, const GateSpec& gate) = 0;  // kGateUp: -> [tokens, out / 2]
  // One matrix per head: x [tokens, heads, in] -> f32 [tokens, heads, out] (MLA's absorbed projections).
  virtual Tensor matmul_heads(const Tensor& x, std::span<const Matrix> w) = 0;

  // --- elementwise and norms
  // Rows of w [vocab.size(), hidden], kColumn, by id -> f32 [tokens, hidden]; 0 for ids outside of vocab.
  virtual Tensor embedding(std::span<const int32_t> ids, const Matrix& w, Range vocab) = 0;
  virtual void add(const Tensor& x, const Tensor& y) = 0;          // x += y, f32
  virtual void add_bias(const Tensor& x, const Tensor& bias) = 0;  // x [tokens, n] += bias f32 [n]
  virtual Tensor rms_norm(const Tensor& x, const Tensor& weight,
                          float epsilon) = 0;  // over the last dimension; weight f32 or undefined (none)
  virtual void rms_norm_inplace(const Tensor& x, const Tensor& weight,
                                float epsilon) = 0;  // x [tokens, heads, head_dim], per head
  // x [tokens, heads, dim] in place: rotates columns [first, first + rotary_dim) of every head.
  virtual void rope(const Tensor& x, std::span<const int32_t> positions, const RopeTable& table, int64_t first) = 0;
  virtual void scale_rows(const Tensor& x, std::span<const float> factors) = 0;  // x [tokens, ...] row i *= factors[i]
  virtual Tensor concat_columns(std::span<const Tensor> parts) = 0;              // [rows, n_i] -> [rows, sum n_i]
  virtual Tensor gather_rows(const Tensor& x, std::span<const int32_t> rows) = 0;  // copies
  virtual void scatter_rows(const Tensor& x, std::span<const int32_t> rows,
                            const Tensor& values) = 0;                // x[rows[i]] = values[i]
  virtual Tensor lookup(const Tensor& ids, const Tensor& table) = 0;  // i32: table[ids], shape of ids; table i32 [n]

  // --- KV cache and attention
  // k [tokens, kv_heads, k_dim], v likewise or undefined; row i goes to page slots[i] / tokens_per_block, offset slots[i] % tokens_per_block.
  virtual void kv_write(const KvLayer& layer, const Tensor& k, const Tensor& v, std::span<const int32_t> slots) = 0;
  // The first `tokens` positions of page `from`, all heads, to page `to`.
  virtual void kv_copy(const KvLayer& layer, int32_t from, int32_t to, int64_t tokens) = 0;
  // Positions [0, span.context) of k, as f32 [context, kv_heads * k_dim].
  virtual Tensor kv_read(const KvLayer& layer, const SequenceSpan& span) = 0;
  // q [tokens, heads, k_dim] -> [tokens, heads, v_dim]; rows not in any span are left undefined. Causal. heads % kv_heads == 0, query
  // head h reads KV head h / (heads / kv_heads).
  virtual Tensor attention(const Tensor& q, const KvLayer& layer, std::span<const SequenceSpan> spans,
                           const AttentionSpec& spec) = 0;

  // The same over those positions only that `share` holds: `layer` holds these, span.pages are theirs, in order. No sinks yet.
  virtual AttentionPart attention_part(const Tensor& q, const KvLayer& layer, std::span<const SequenceSpan> spans,
                                       const AttentionSpec& spec, const PageShare& share) = 0;
  // Attention over all positions of the parts, joined in their order (as blocks of online softmax, Milakov and Gimelshein 2018); sinks
  // f32 [heads] or undefined take part here, once. [tokens, heads, v_dim]. Overwrites the first part.
  virtual Tensor attention_join(std::span<const AttentionPart> parts, const Tensor& sinks) = 0;

  // --- mixture of experts
  virtual Routing route(const Tensor& logits, const RouterSpec& spec) = 0;  // logits f32 [tokens, experts]
  // Weighted sum of the row's local experts in ascending pick order, f32 [rows, hidden] (0 where there are none).
  virtual Tensor experts_sum(const ExpertBatch& batch, const ExpertMatrices& experts) = 0;
  // Every pick >= 0 as its own unweighted row, row-major order, f32 [picks, hidden].
  virtual Tensor experts_rows(const ExpertBatch& batch, const ExpertMatrices& experts) = 0;
  // picks f32 [tokens, top_k, hidden] -> f32 [tokens, hidden]: sum over k ascending of weights[t, k] * picks[t, k].
  virtual Tensor weigh_picks(const Tensor& picks, const Tensor& weights) = 0;
  // x [tokens, hidden] += sum over k of weights[t, k] * table[ids[t, k]], table f32 [experts, hidden] (gpt-oss's down bias).
  virtual void add_weighted_rows(const Tensor& x, const Tensor& ids, const Tensor& weights, const Tensor& table) = 0;
};

}  // namespace shoal
