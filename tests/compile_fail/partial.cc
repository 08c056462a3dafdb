// SPDX-License-Identifier: Apache-2.0
// A partial sum can be reduced over its own group and nothing else.
// WRONG_FORGOTTEN_REDUCTION: no match for .operator\+=|no viable overloaded|cannot convert|could not convert
// WRONG_GROUP: no matching .*function for call to .*all_reduce
// WRONG_PARTIAL_AS_TENSOR: invalid initialization|cannot convert|could not convert|no matching|no viable|no known conversion
// WRONG_PEEK: is private within this context|is a private member
// WRONG_IMPLICIT_PARTIAL: could not convert|cannot convert|conversion from|no viable conversion
#include "comm/group.h"

namespace shoal {

void norm(const Tensor& x);

Tensor& operator+=(Tensor& x, const Tensor& y);

void block(Tensor x, Tensor product, const Group<Axis::kAttnTp>& tp, const Group<Axis::kMoe>& moe) {
  Partial<Axis::kAttnTp> partial(product);
#if defined(WRONG_FORGOTTEN_REDUCTION)
  x += partial;
#elif defined(WRONG_GROUP)
  x += moe.all_reduce(partial);
#elif defined(WRONG_PARTIAL_AS_TENSOR)
  norm(partial);
#elif defined(WRONG_PEEK)
  norm(partial.term_);
#elif defined(WRONG_IMPLICIT_PARTIAL)
  Partial<Axis::kMoe> term = product;
  x += moe.all_reduce(term);
#else
  x += tp.all_reduce(partial);
  x += moe.all_reduce(Partial<Axis::kMoe>(product));
  norm(x);
#endif
}

}  // namespace shoal
