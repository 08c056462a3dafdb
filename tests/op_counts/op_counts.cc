// SPDX-License-Identifier: Apache-2.0
// Runs each of the CPU backend's ops once, on one thread, with callgrind's counters around it: `op_counts avx2|plain`. To be run by
// tests/op_counts/check. Shapes are small, and not multiples of tiles only, because counting is slow and tails cost instructions too.
#include <valgrind/callgrind.h>

#include <cstdio>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "backend/factory.h"

namespace shoal {
namespace {

constexpr int64_t kHidden = 512;
constexpr int64_t kHeads = 4;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kHeadDim = 64;
constexpr int64_t kTokensPerBlock = 32;

// Counters from zero for the second call, which finds its memory allocated.
void count(const std::string& name, const std::function<void()>& op) {
  op();
  CALLGRIND_START_INSTRUMENTATION;
  CALLGRIND_ZERO_STATS;
  op();
  CALLGRIND_DUMP_STATS_AT(name.c_str());
  CALLGRIND_STOP_INSTRUMENTATION;
}

class Ops {
 public:
  explicit Ops(const std::string& isa)
      : backend_(make_backend({.device = "cpu", .isa = isa, .threads = 1, .cores = {}})) {}

  void products() {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      const std::string type = dtype == DType::kBF16 ? "bf16" : "f32";
      const Matrix column = matrix(200, kHidden, MatrixKind::kColumn, dtype);
      const Matrix row = matrix(200, kHidden, MatrixKind::kRow, dtype);
      for (const int64_t rows : {1, 7, 40}) {
        const Tensor x = tensor({rows, kHidden});
        count("column_" + type + "_" + std::to_string(rows), [&] { backend_->matmul(x, column, Tensor()); });
      }
      const Tensor x = tensor({7, kHidden});
      count("row_" + type + "_7", [&] { backend_->matmul_partial(x, row); });
    }
    const Matrix gated = matrix(256, kHidden, MatrixKind::kGateUp, DType::kBF16);
    const Tensor x = tensor({7, kHidden});
    count("gate_up_bf16_7", [&] { backend_->gate_up(x, gated, {}); });
  }

  void experts() {
    constexpr int64_t kTokens = 12, kExperts = 8, kTopK = 2, kFfn = 96;
    ExpertMatrices experts;
    for (int64_t e = 0; e < kExperts; ++e) {
      experts.gate_up.push_back(matrix(2 * kFfn, kHidden, MatrixKind::kGateUp, DType::kBF16));
      experts.down.push_back(matrix(kHidden, kFfn, MatrixKind::kRow, DType::kBF16));
    }
    const Tensor x = tensor({kTokens, kHidden});
    const Tensor logits = tensor({kTokens, kExperts});
    const RouterSpec router{.experts = kExperts, .top_k = kTopK};
    const Routing routing = backend_->route(logits, router);
    count("route", [&] { backend_->route(logits, router); });
    const ExpertBatch batch{.rows = x, .slots = routing.experts, .weights = routing.weights};
    count("experts_sum", [&] { backend_->experts_sum(batch, experts); });
    count("experts_rows", [&] { backend_->experts_rows(batch, experts); });
  }

  void attention() {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      const std::string type = dtype == DType::kBF16 ? "_bf16" : "_f32";
      constexpr int64_t kContext = 160;
      const KvLayer layer = cache(kContext, dtype);
      const Tensor k = tensor({24, kKvHeads, kHeadDim});
      std::vector<int32_t> slots(24);
      std::iota(slots.begin(), slots.end(), 0);
      count("kv_write" + type, [&] { backend_->kv_write(layer, k, k, slots); });
      const AttentionSpec spec{.scale = 0.125f, .v_dim = kHeadDim};
      for (const int64_t rows : {1, 24}) {
        const Tensor q = tensor({rows, kHeads, kHeadDim});
        const SequenceSpan span{.row_begin = 0, .rows = rows, .context = kContext, .pages = {0, 1, 2, 3, 4}};
        count("attention" + type + "_" + std::to_string(rows),
              [&] { backend_->attention(q, layer, std::span(&span, 1), spec); });
      }
    }
  }

  void elementwise() {
    constexpr int64_t kTokens = 7;
    const Tensor x = tensor({kTokens, kHidden});
    const Tensor y = tensor({kTokens, kHidden});
    const Tensor weight = tensor({kHidden});
    count("add", [&] { backend_->add(x, y); });
    count("add_bias", [&] { backend_->add_bias(x, weight); });
    count("rms_norm", [&] { backend_->rms_norm(x, weight, 1e-6f); });
    const Tensor heads = tensor({kTokens, kHeads, kHeadDim});
    const RopeTable table{.cos = tensor({64, kHeadDim / 2}), .sin = tensor({64, kHeadDim / 2})};
    std::vector<int32_t> positions(kTokens);
    std::iota(positions.begin(), positions.end(), 20);
    count("rope", [&] { backend_->rope(heads, positions, table, 0); });
  }

 private:
  std::vector<float> values(int64_t n) {
    std::vector<float> result(static_cast<size_t>(n));
    for (float& value : result)
      value = static_cast<float>((state_ = state_ * 1664525u + 1013904223u) >> 8) * 0x1p-24f - 0.5f;
    return result;
  }
  Tensor tensor(const Shape& shape) {
    const std::vector<float> data = values(shape.elements());
    return backend_->from_host(std::span<const float>(data), shape);
  }
  Matrix matrix(int64_t out, int64_t in, MatrixKind kind, DType dtype) {
    const Matrix result =
        backend_->new_matrix({.out = out, .in = in, .kind = kind, .dtype = dtype, .k_slice = {0, in}, .k_total = in});
    backend_->fill_rows(result, 0, out, values(out * in));
    return result;
  }
  KvLayer cache(int64_t context, DType dtype) {
    const Shape shape{context / kTokensPerBlock, kKvHeads, kTokensPerBlock, kHeadDim};
    KvLayer layer{.k = backend_->zeros(dtype, shape), .v = backend_->zeros(dtype, shape)};
    std::vector<int32_t> slots(static_cast<size_t>(context));
    std::iota(slots.begin(), slots.end(), 0);
    const Tensor rows = tensor({context, kKvHeads, kHeadDim});
    backend_->kv_write(layer, rows, rows, slots);
    return layer;
  }

  std::unique_ptr<Backend> backend_;
  uint32_t state_ = 1;
};

}  // namespace
}  // namespace shoal

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: op_counts avx2|plain\n", stderr);
    return 2;
  }
  shoal::Ops ops(argv[1]);
  ops.products();
  ops.experts();
  ops.attention();
  ops.elementwise();
  return 0;
}
