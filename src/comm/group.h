// SPDX-License-Identifier: Apache-2.0
// Group<Axis>: a Comm whose type says over which ranks it reaches, so that a Partial can be reduced over its own group only.
#pragma once

#include <array>

#include "comm/comm.h"
#include "tensor/partial.h"

namespace shoal {

template <Axis A>
class Group {
 public:
  explicit Group(Comm& comm) : comm_(&comm) {}
  int rank() const { return comm_->rank(); }
  int size() const { return comm_->size(); }
  Comm& comm() const { return *comm_; }

  // The whole sum, f32 [tokens, hidden]; takes the partial's memory.
  Tensor all_reduce(Partial<A> partial) const {
    if (comm_->size() > 1) comm_->all_reduce(std::array{partial.term_});
    return std::move(partial.term_);
  }
  // Two sums in one message, each reduced by itself.
  std::array<Tensor, 2> all_reduce(Partial<A> first, Partial<A> second) const {
    if (comm_->size() > 1) comm_->all_reduce(std::array{first.term_, second.term_});
    return {std::move(first.term_), std::move(second.term_)};
  }

 private:
  Comm* comm_;
};

}  // namespace shoal
