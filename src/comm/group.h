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
  template <Axis B, Axis C>
  friend std::array<Tensor, 2> all_reduce_together(const Group<B>& first, Partial<B> a, const Group<C>& second,
                                                   Partial<C> b);
  static Tensor take(Partial<A>& partial) { return std::move(partial.term_); }

  Comm* comm_;
};

// Sums over two groups of the same ranks in the same order, in one message, each reduced by itself.
template <Axis B, Axis C>
std::array<Tensor, 2> all_reduce_together(const Group<B>& first, Partial<B> a, const Group<C>& second, Partial<C> b) {
  CHECK_EQ(first.size(), second.size());
  CHECK_EQ(first.rank(), second.rank());
  std::array<Tensor, 2> terms{Group<B>::take(a), Group<C>::take(b)};
  if (first.size() > 1) first.comm_->all_reduce(terms);
  return terms;
}

}  // namespace shoal
