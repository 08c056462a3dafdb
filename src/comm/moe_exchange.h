// SPDX-License-Identifier: Apache-2.0
// MoE dispatch and combine: each token travels once to each *rank* that holds a slot it needs, not once per expert, and comes back
// as one row per rank (or, `deterministic`, one row per expert).
//
// Ranks of the group are the MoE grid, rank = moe_tp_rank * ep + ep_rank; slot s lives on EP rank s / slots_per_rank, cut over all
// moe_tp ranks of that column, so a token goes to every one of them.
//
// Worked example: ep 2, moe_tp 1, 2 slots a rank, top-2; rank 0 is home of tokens a, b, rank 1 of c.
//   slots: a -> {0, 1}, b -> {1, 2}, c -> {0, 3}
//   dispatch: rank 0 receives a (slots 0, 1), b (1, -1), c (0, -1); rank 1 receives b (-1, 2), c (-1, 3): 5 rows instead of 6.
//   combine: rank 0 returns one row for each of a, b, c to their homes; rank 1 for b, c; homes add by rank, ascending.
#pragma once

#include <cstdint>
#include <memory>

#include "comm/comm.h"
#include "parallel/moe_load.h"

namespace shoal {

class Backend;

struct MoeExchangeShape {
  int64_t ep = 1;
  int64_t moe_tp = 1;
  int64_t slots_per_rank = 1;
};

// What a rank has to compute after dispatch.
struct Dispatched {
  Tensor rows;     // [received, hidden], in the activation's dtype, ordered by source rank, then by token
  Tensor slots;    // i32 [received, top_k]: local slot, or -1 where that pick lives elsewhere
  Tensor weights;  // f32 [received, top_k]
};

// What a call would bring; every rank learns the same.
struct Announced {
  MoeLoad most;            // the most of any rank
  bool divisible = false;  // some home has more than one token
};

// One exchange per MoE call: announce and dispatch once, then combine once; the object may be used for call after call. Memory comes from
// `allocate` (a Backend's), and slots are read on the host.
class MoeExchange {
 public:
  using Allocate = Tensor (*)(void* context, DType dtype, const Shape& shape);
  struct Allocator {
    Allocate function = nullptr;
    void* context = nullptr;
    const MoeLoad* dry =
        nullptr;  // results are only wanted for their memory, when this rank receives so much; what is received is not set
    Tensor operator()(DType dtype, const Shape& shape) const { return function(context, dtype, shape); }
  };

  MoeExchange(Comm& comm, const MoeExchangeShape& shape, Allocator allocate);
  ~MoeExchange();

  // slots i32 [tokens, top_k] of this rank's home tokens, global, -1 for no pick. One small message.
  Announced announce(const Tensor& slots);
  // Of what was announced last: rows [tokens, hidden]; weights f32 [tokens, top_k]. One message: rows, slots and weights together.
  Dispatched dispatch(const Tensor& rows, const Tensor& slots, const Tensor& weights);
  // Picks >= 0 of the last Dispatched.slots: the products to compute.
  int64_t received_picks() const;
  // outputs f32 [received, hidden]: this rank's weighted sum per received row. Returns f32 [tokens, hidden], the sum over ranks:
  // for each EP rank ascending, the binary tree over moe_tp. One message; 0 for a token without picks.
  Tensor combine_sums(const Tensor& outputs);
  // outputs f32 [local picks, hidden], unweighted, one row per pick >= 0 of Dispatched.slots in row-major order. Returns f32
  // [tokens, top_k, hidden]: pick k's whole row, moe_tp terms added in the binary tree; 0 for no pick. One message. Exact under any
  // placement.
  Tensor combine_picks(const Tensor& outputs);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shoal
