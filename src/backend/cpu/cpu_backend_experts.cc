// SPDX-License-Identifier: Apache-2.0
// CpuBackend: routed experts. Picks are grouped by slot; each expert is one product over its rows; each pick's result is a row of its own,
// so grouping and threads change no bit: a row's picks are added afterwards, in ascending order.
#include <algorithm>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/gemm_run.h"
#include "base/error.h"
#include "tensor/raw.h"

namespace shoal {
namespace {

constexpr int64_t kGrainFloats = 32 << 10;

// The batch's picks (slot >= 0) in two orders: as they stand (row-major, "pick") and grouped by slot ("place").
struct Picks {
  std::vector<int32_t> first_of_slot;  // places [first_of_slot[s], first_of_slot[s + 1]) belong to slot s
  std::vector<int32_t> row;            // by place: batch row
  std::vector<int32_t> pick;           // by place: its number in row-major order
  std::vector<float> weight;           // by place
  std::vector<int32_t> first_of_row;   // picks [first_of_row[r], first_of_row[r + 1]) belong to row r
  std::vector<float> weight_of_pick;
  int64_t count() const { return static_cast<int64_t>(row.size()); }
};

// Counting sort by slot.
Picks group_by_slot(const ExpertBatch& batch, size_t slots) {
  Picks picks;
  const int64_t rows = batch.rows.rows();
  const int64_t top_k = batch.slots.size(1);
  CHECK_EQ(batch.slots.rows(), rows);
  CHECK(batch.weights.shape() == batch.slots.shape());
  picks.first_of_slot.assign(slots + 1, 0);
  picks.first_of_row.reserve(static_cast<size_t>(rows) + 1);
  for (int64_t r = 0; r < rows; ++r) {
    picks.first_of_row.push_back(static_cast<int32_t>(picks.weight_of_pick.size()));
    for (int64_t k = 0; k < top_k; ++k) {
      const int32_t slot = raw_row<int32_t>(batch.slots, r)[k];
      if (slot < 0) continue;
      CHECK_LT(static_cast<size_t>(slot), slots);
      ++picks.first_of_slot[static_cast<size_t>(slot) + 1];
      picks.weight_of_pick.push_back(raw_row<float>(batch.weights, r)[k]);
    }
  }
  const size_t count = picks.weight_of_pick.size();
  picks.first_of_row.push_back(static_cast<int32_t>(count));
  for (size_t s = 0; s < slots; ++s) picks.first_of_slot[s + 1] += picks.first_of_slot[s];
  picks.row.resize(count);
  picks.pick.resize(count);
  picks.weight.resize(count);
  std::vector<int32_t> next(picks.first_of_slot.begin(), picks.first_of_slot.end());
  int32_t pick = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < top_k; ++k) {
      const int32_t slot = raw_row<int32_t>(batch.slots, r)[k];
      if (slot < 0) continue;
      const auto place = static_cast<size_t>(next[static_cast<size_t>(slot)]++);
      picks.row[place] = static_cast<int32_t>(r);
      picks.weight[place] = picks.weight_of_pick[static_cast<size_t>(pick)];
      picks.pick[place] = pick++;
    }
  }
  return picks;
}

// One product per expert that has rows; `fill` sets what is particular to it.
template <typename Fill>
std::vector<GemmProduct> products_of(const Picks& picks, const std::vector<Matrix>& matrices, const Fill& fill) {
  std::vector<GemmProduct> products;
  for (size_t slot = 0; slot < matrices.size(); ++slot) {
    const int32_t first = picks.first_of_slot[slot];
    const int32_t rows = picks.first_of_slot[slot + 1] - first;
    if (rows == 0) continue;
    CHECK(matrices[slot].defined());
    GemmProduct product{.w = packed(matrices[slot]).panels(), .rows = rows};
    fill(product, slot, first);
    products.push_back(product);
  }
  return products;
}

// A matrix of some slot: all have the same shape, and an empty slot has none.
const Matrix& example(const std::vector<Matrix>& matrices) {
  for (const Matrix& matrix : matrices)
    if (matrix.defined()) return matrix;
  return matrices.front();
}

void check_experts(const ExpertBatch& batch, const ExpertMatrices& experts) {
  CHECK_EQ(experts.gate_up.size(), experts.down.size());
  CHECK(experts.gate_up_bias.empty() || experts.gate_up_bias.size() == experts.gate_up.size());
  for (size_t slot = 0; slot < experts.down.size(); ++slot) {
    const Matrix& gate_up = experts.gate_up[slot];
    const Matrix& down = experts.down[slot];
    CHECK_EQ(gate_up.defined(), down.defined());
    if (!gate_up.defined()) continue;
    CHECK_EQ(gate_up.in(), batch.rows.row_elements());
    CHECK_EQ(gate_up.out(), example(experts.gate_up).out());
    CHECK_EQ(gate_up.out(), 2 * down.in());
    CHECK_EQ(down.out(), batch.rows.row_elements());
    CHECK(gate_up.spec().kind == MatrixKind::kGateUp);
  }
}

// act(gate_up(row)) of each place, f32 [places, ffn].
std::shared_ptr<void> run_gate_up(const GemmRunner& runner, const ExpertBatch& batch, const ExpertMatrices& experts,
                                  const Picks& picks) {
  const int64_t ffn = example(experts.down).in();
  auto memory = runner.allocator.allocate(sizeof(float) * static_cast<size_t>(picks.count() * ffn));
  RowSource source{.data = raw<float>(batch.rows), .rows = batch.rows.rows(), .stride = batch.rows.row_stride()};
  if (experts.weight_on_input) {  // the same row differs by pick
    source.rows = picks.count();
    source.index = picks.row.data();
    source.scales = picks.weight.data();
  }
  const PackedRows rows = runner.pack(source, packed(example(experts.gate_up)));
  runner.run(products_of(picks, experts.gate_up, [&](GemmProduct& product, size_t slot, int32_t first) {
    product.a = experts.weight_on_input ? rows.data + first * rows.stride : rows.data;
    product.a_stride = rows.stride;
    product.a_index = experts.weight_on_input ? nullptr : picks.row.data() + first;
    product.out = static_cast<float*>(memory.get()) + first * ffn;
    product.out_stride = ffn;
    product.bias = experts.gate_up_bias.empty() ? nullptr : raw<float>(experts.gate_up_bias[slot]);
    product.gated = true;
    product.clamped_swish = experts.gate.kind == GateKind::kClampedSwish;
    product.limit = experts.gate.limit;
  }));
  return memory;
}

// Each pick's unweighted result, to row `pick` of out [picks, hidden].
void run_experts(const GemmRunner& runner, const ExpertBatch& batch, const ExpertMatrices& experts, const Picks& picks,
                 float* out) {
  if (picks.count() == 0) return;
  const int64_t hidden = batch.rows.row_elements();
  const int64_t ffn = example(experts.down).in();
  const std::shared_ptr<void> activated = run_gate_up(runner, batch, experts, picks);
  const PackedRows rows =
      runner.pack({.data = static_cast<const float*>(activated.get()), .rows = picks.count(), .stride = ffn},
                  packed(example(experts.down)));
  runner.run(products_of(picks, experts.down, [&](GemmProduct& product, size_t, int32_t first) {
    product.a = rows.data + first * rows.stride;
    product.a_stride = rows.stride;
    product.out = out;
    product.out_stride = hidden;
    product.out_index = picks.pick.data() + first;
  }));
}

}  // namespace

Tensor CpuBackend::experts_rows(const ExpertBatch& batch, const ExpertMatrices& experts) {
  check_experts(batch, experts);
  const Picks picks = group_by_slot(batch, experts.down.size());
  const Tensor out = empty(DType::kF32, {picks.count(), batch.rows.row_elements()});
  run_experts({gemm_, pool_, *allocator_}, batch, experts, picks, raw<float>(out));
  return out;
}

Tensor CpuBackend::experts_sum(const ExpertBatch& batch, const ExpertMatrices& experts) {
  check_experts(batch, experts);
  const Picks picks = group_by_slot(batch, experts.down.size());
  const int64_t hidden = batch.rows.row_elements();
  const Tensor rows = empty(DType::kF32, {picks.count(), hidden});
  run_experts({gemm_, pool_, *allocator_}, batch, experts, picks, raw<float>(rows));
  const Tensor out = empty(DType::kF32, {batch.rows.rows(), hidden});
  pool_.parallel_for(out.rows(), kGrainFloats / (hidden + 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* sum = raw_row<float>(out, row);
      std::fill_n(sum, hidden, 0.0f);
      for (int32_t pick = picks.first_of_row[row]; pick < picks.first_of_row[row + 1]; ++pick) {
        const float weight = experts.weight_on_input ? 1.0f : picks.weight_of_pick[pick];
        gemm_.add_scaled(raw_row<float>(rows, pick), weight, hidden, sum);
      }
    }
  });
  return out;
}

Tensor CpuBackend::weigh_picks(const Tensor& picks, const Tensor& weights) {
  const int64_t hidden = picks.size(2);
  const int64_t top_k = picks.size(1);
  CHECK(weights.shape() == Shape({picks.rows(), top_k}));
  const Tensor out = empty(DType::kF32, {picks.rows(), hidden});
  pool_.parallel_for(out.rows(), kGrainFloats / (hidden * top_k + 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* sum = raw_row<float>(out, row);
      std::fill_n(sum, hidden, 0.0f);
      for (int64_t k = 0; k < top_k; ++k) {
        gemm_.add_scaled(raw_row<float>(picks, row) + k * hidden, raw_row<float>(weights, row)[k], hidden, sum);
      }
    }
  });
  return out;
}

void CpuBackend::add_weighted_rows(const Tensor& x, const Tensor& ids, const Tensor& weights, const Tensor& table) {
  const int64_t n = x.row_elements();
  CHECK_EQ(table.row_elements(), n);
  CHECK_EQ(ids.rows(), x.rows());
  CHECK(ids.shape() == weights.shape());
  pool_.parallel_for(x.rows(), kGrainFloats / (n * ids.size(1) + 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t k = 0; k < ids.size(1); ++k) {
        const int32_t id = raw_row<int32_t>(ids, row)[k];
        CHECK(0 <= id && id < table.rows());
        gemm_.add_scaled(raw_row<float>(table, id), raw_row<float>(weights, row)[k], n, raw_row<float>(x, row));
      }
    }
  });
}

}  // namespace shoal
