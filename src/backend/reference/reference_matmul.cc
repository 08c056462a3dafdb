// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "backend/reference/reference_backend.h"
#include "tensor/raw.h"

namespace shoal {

namespace {

struct ReferenceMatrix final : Matrix::Storage {
  std::vector<float> values;  // [out, in]
};

float rounded(float value, DType dtype) { return dtype == DType::kBF16 ? to_float(to_bfloat16(value)) : value; }

// out[o] = sum over i of w[o, i] * x[i]
void multiply(const float* x, const Matrix& w, float* out) {
  const auto& values = static_cast<const ReferenceMatrix*>(w.storage())->values;
  for (int64_t o = 0; o < w.out(); ++o) {
    double sum = 0.0;
    for (int64_t i = 0; i < w.in(); ++i) sum += double{values[static_cast<size_t>(o * w.in() + i)]} * double{x[i]};
    out[o] = static_cast<float>(sum);
  }
}

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// gate_up [2 * ffn] -> out [ffn]
void activate(const std::vector<float>& gate_up, const GateSpec& spec, float* out) {
  const size_t ffn = gate_up.size() / 2;
  for (size_t i = 0; i < ffn; ++i) {
    double gate = gate_up[i];
    double up = gate_up[ffn + i];
    if (spec.kind == GateKind::kSilu) {
      out[i] = static_cast<float>(gate * sigmoid(gate) * up);
      continue;
    }
    gate = std::min<double>(gate, spec.limit);
    up = std::clamp<double>(up, -spec.limit, spec.limit);
    out[i] = static_cast<float>(gate * sigmoid(1.702 * gate) * (up + 1.0));
  }
}

// One row through one routed expert, f32 [hidden], unweighted.
std::vector<float> run_expert(const float* x, float input_weight, const ExpertMatrices& experts, int32_t slot) {
  const auto index = static_cast<size_t>(slot);
  const Matrix& gate_up = experts.gate_up.at(index);
  const Matrix& down = experts.down.at(index);
  std::vector<float> input(x, x + gate_up.in());
  for (float& value : input) value *= input_weight;
  std::vector<float> projected(static_cast<size_t>(gate_up.out()));
  multiply(input.data(), gate_up, projected.data());
  if (!experts.gate_up_bias.empty())
    for (size_t i = 0; i < projected.size(); ++i) projected[i] += raw<float>(experts.gate_up_bias.at(index))[i];
  std::vector<float> activated(projected.size() / 2);
  activate(projected, experts.gate, activated.data());
  std::vector<float> result(static_cast<size_t>(down.out()));
  multiply(activated.data(), down, result.data());
  return result;
}

}  // namespace

Matrix ReferenceBackend::new_matrix(const MatrixSpec& spec) {
  auto storage = std::make_shared<ReferenceMatrix>();
  storage->spec = spec;
  storage->bytes = matrix_bytes(spec);
  storage->values.resize(static_cast<size_t>(spec.out * spec.in));
  return Matrix(std::move(storage));
}

int64_t ReferenceBackend::matrix_bytes(const MatrixSpec& spec) const {
  return spec.out * spec.in * static_cast<int64_t>(sizeof(float));
}

void ReferenceBackend::fill_rows_from(const Matrix& matrix, int64_t row, int64_t count, const HostRows& values) {
  CHECK(0 <= row && row + count <= matrix.out());
  CHECK(values.dtype == DType::kF32 || values.dtype == matrix.spec().dtype);
  auto* target = static_cast<ReferenceMatrix*>(matrix.storage())->values.data() + row * matrix.in();
  for (int64_t r = 0; r < count; ++r)
    for (int64_t i = 0; i < matrix.in(); ++i) *target++ = rounded(values.at(r, i), matrix.spec().dtype);
}

Tensor ReferenceBackend::embedding(std::span<const int32_t> ids, const Matrix& w, Range vocab) {
  CHECK_EQ(w.out(), vocab.size());
  const Tensor out = zeros(DType::kF32, {static_cast<int64_t>(ids.size()), w.in()});
  const float* rows = static_cast<const ReferenceMatrix*>(w.storage())->values.data();
  for (size_t t = 0; t < ids.size(); ++t) {
    if (!vocab.contains(ids[t])) continue;
    std::copy_n(rows + (ids[t] - vocab.begin) * w.in(), w.in(), raw_row<float>(out, static_cast<int64_t>(t)));
  }
  return out;
}

void ReferenceBackend::copy_matrix(const Matrix& from, const Matrix& to, int64_t begin, int64_t bytes) {
  CHECK(from.spec() == to.spec());
  CHECK(0 <= begin && begin + bytes <= from.bytes());
  const auto* source =
      reinterpret_cast<const std::byte*>(static_cast<const ReferenceMatrix*>(from.storage())->values.data());
  auto* target = reinterpret_cast<std::byte*>(static_cast<ReferenceMatrix*>(to.storage())->values.data());
  std::copy_n(source + begin, bytes, target + begin);
}

Tensor ReferenceBackend::matmul(const Tensor& x, const Matrix& w, const Tensor& bias) {
  CHECK_EQ(x.row_elements(), w.in());
  const Tensor out = empty(DType::kF32, {x.rows(), w.out()});
  for (int64_t row = 0; row < x.rows(); ++row) multiply(raw_row<float>(x, row), w, raw_row<float>(out, row));
  if (bias.defined()) add_bias(out, bias);
  return out;
}

Tensor ReferenceBackend::matmul_partial(const Tensor& x, const Matrix& w) {
  CHECK(w.spec().kind == MatrixKind::kRow);
  return matmul(x, w, Tensor());
}

Tensor ReferenceBackend::gate_up(const Tensor& x, const Matrix& w, const GateSpec& gate) {
  CHECK_EQ(x.row_elements(), w.in());
  CHECK(w.spec().kind == MatrixKind::kGateUp);
  const Tensor out = empty(DType::kF32, {x.rows(), w.out() / 2});
  std::vector<float> projected(static_cast<size_t>(w.out()));
  for (int64_t row = 0; row < x.rows(); ++row) {
    multiply(raw_row<float>(x, row), w, projected.data());
    activate(projected, gate, raw_row<float>(out, row));
  }
  return out;
}

Tensor ReferenceBackend::matmul_heads(const Tensor& x, std::span<const Matrix> w) {
  CHECK_EQ(x.size(1), static_cast<int64_t>(w.size()));
  const int64_t out_dim = w.empty() ? 0 : w[0].out();
  const Tensor out = empty(DType::kF32, {x.rows(), x.size(1), out_dim});
  for (int64_t row = 0; row < x.rows(); ++row)
    for (int64_t head = 0; head < x.size(1); ++head)
      multiply(raw_row<float>(x, row) + head * x.size(2), w[static_cast<size_t>(head)],
               raw_row<float>(out, row) + head * out_dim);
  return out;
}

Tensor ReferenceBackend::experts_sum(const ExpertBatch& batch, const ExpertMatrices& experts) {
  const int64_t hidden = batch.rows.row_elements();
  const Tensor out = empty(DType::kF32, {batch.rows.rows(), hidden});
  std::vector<double> sum(static_cast<size_t>(hidden));
  for (int64_t row = 0; row < batch.rows.rows(); ++row) {
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int64_t pick = 0; pick < batch.slots.size(1); ++pick) {
      const int32_t slot = raw_row<int32_t>(batch.slots, row)[pick];
      if (slot < 0) continue;
      const float weight = raw_row<float>(batch.weights, row)[pick];
      const bool on_input = experts.weight_on_input;
      const auto result = run_expert(raw_row<float>(batch.rows, row), on_input ? weight : 1.0f, experts, slot);
      for (size_t i = 0; i < result.size(); ++i) sum[i] += (on_input ? 1.0 : double{weight}) * double{result[i]};
    }
    for (size_t i = 0; i < sum.size(); ++i) raw_row<float>(out, row)[i] = static_cast<float>(sum[i]);
  }
  return out;
}

Tensor ReferenceBackend::experts_rows(const ExpertBatch& batch, const ExpertMatrices& experts) {
  const int64_t hidden = batch.rows.row_elements();
  std::vector<float> values;
  for (int64_t row = 0; row < batch.rows.rows(); ++row) {
    for (int64_t pick = 0; pick < batch.slots.size(1); ++pick) {
      const int32_t slot = raw_row<int32_t>(batch.slots, row)[pick];
      if (slot < 0) continue;
      const float weight = experts.weight_on_input ? raw_row<float>(batch.weights, row)[pick] : 1.0f;
      const auto result = run_expert(raw_row<float>(batch.rows, row), weight, experts, slot);
      values.insert(values.end(), result.begin(), result.end());
    }
  }
  return from_host(std::span<const float>(values), {static_cast<int64_t>(values.size()) / hidden, hidden});
}

Tensor ReferenceBackend::weigh_picks(const Tensor& picks, const Tensor& weights) {
  const int64_t hidden = picks.size(2);
  const Tensor out = empty(DType::kF32, {picks.rows(), hidden});
  for (int64_t row = 0; row < picks.rows(); ++row)
    for (int64_t i = 0; i < hidden; ++i) {
      double sum = 0.0;
      for (int64_t k = 0; k < picks.size(1); ++k)
        sum += double{raw_row<float>(weights, row)[k]} * double{raw_row<float>(picks, row)[k * hidden + i]};
      raw_row<float>(out, row)[i] = static_cast<float>(sum);
    }
  return out;
}

void ReferenceBackend::add_weighted_rows(const Tensor& x, const Tensor& ids, const Tensor& weights,
                                         const Tensor& table) {
  for (int64_t row = 0; row < x.rows(); ++row)
    for (int64_t i = 0; i < x.row_elements(); ++i) {
      double sum = raw_row<float>(x, row)[i];
      for (int64_t k = 0; k < ids.size(1); ++k)
        sum +=
            double{raw_row<float>(weights, row)[k]} * double{raw_row<float>(table, raw_row<int32_t>(ids, row)[k])[i]};
      raw_row<float>(x, row)[i] = static_cast<float>(sum);
    }
}

}  // namespace shoal
