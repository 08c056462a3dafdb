// SPDX-License-Identifier: Apache-2.0
// Partial<Axis>: one rank's term of a sum over the ranks of a group, as a row-parallel product gives it. It can be added to another
// Partial of the same group or be reduced (comm/group.h), and nothing else: a forgotten reduction, a doubled bias, a norm over a
// partial sum or a reduction over the wrong group does not compile (tests/compile_fail).
#pragma once

#include <utility>

#include "tensor/tensor.h"

namespace shoal {

// The groups over which sums are partial. Ranks of each: parallel/mesh.h.
enum class Axis : uint8_t {
  kAttn,    // the ranks that work on the same tokens: kAttnTp times kCp
  kAttnTp,  // of those, the ranks with different heads of the same positions
  kCp,      // of those, the ranks with different positions for the same heads
  kFfnTp,   // the ranks that share a dense FFN or shared expert; the same as kAttn
  kMoe,     // all ranks of a stage: routed experts are spread over them
  kMoeTp,   // the ranks that hold slices of the same expert
  kMoeEp,   // the ranks that hold different experts
  kPp,      // the ranks with the same place in every stage
  kStage,   // all ranks of one stage of one replica
};

template <Axis A>
class Partial {
 public:
  explicit Partial(Tensor term) : term_(std::move(term)) {}

 private:
  template <Axis B>
  friend class Group;
  Tensor term_;  // f32 [tokens, hidden]
};

}  // namespace shoal
