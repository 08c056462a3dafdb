// SPDX-License-Identifier: Apache-2.0
// Linear layers over handles of a WeightTable. A row-parallel product is a Partial of the group that cuts its input.
#pragma once

#include "backend/ops.h"
#include "model/weights.h"
#include "tensor/partial.h"

namespace shoal {

// y = x W^T + bias, W [out, in] whole in `in`. f32 [tokens, out].
struct ColumnLinear {
  const Matrix* weight = nullptr;
  const Tensor* bias = nullptr;  // f32 [out], or null

  Tensor operator()(Backend& backend, const Tensor& x) const {
    return backend.matmul(x, *weight, bias ? *bias : Tensor());
  }
};

// This rank's term of y = x W^T, W [out, in] cut in `in` over group A. A bias, if any, is added after the reduction, by
// the caller.
template <Axis A>
struct RowLinear {
  const Matrix* weight = nullptr;

  Partial<A> operator()(Backend& backend, const Tensor& x) const {
    return Partial<A>(backend.matmul_partial(x, *weight));
  }
};

// SwiGLU (Shazeer 2020): down(silu(gate x) * up x).
struct Mlp {
  const Matrix* gate_up = nullptr;  // [2 * ffn, hidden]
  RowLinear<Axis::kFfnTp> down;     // [hidden, ffn]

  Mlp() = default;
  // `block`: tensor names below it are gate_proj, up_proj and down_proj.
  Mlp(WeightTable& weights, const std::string& block, const Dim& hidden, const Dim& ffn)
      : gate_up(weights.matrix(
            MatrixKind::kGateUp,
            {weights.part(block + ".gate_proj", ffn, hidden), weights.part(block + ".up_proj", ffn, hidden)},
            weights.local(hidden), weights.compute())),
        down{weights.row(block + ".down_proj", hidden, ffn)} {}

  Partial<Axis::kFfnTp> operator()(Backend& backend, const Tensor& x) const {
    return down(backend, backend.gate_up(x, *gate_up, GateSpec{}));
  }
};

}  // namespace shoal
