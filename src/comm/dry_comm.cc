// SPDX-License-Identifier: Apache-2.0
#include "comm/dry_comm.h"

#include <algorithm>
#include <cstring>

#include "tensor/raw.h"

namespace shoal {

void DryComm::all_to_all_rows(const RowExchange& exchange) {
  for (size_t i = 0; i < exchange.in.size(); ++i)
    if (exchange.in[i].dtype() == DType::kI32) repeat_own_rows(exchange, exchange.in[i], exchange.out[i]);
}

// As many rows from every rank as the exchange says, made of those that this rank sends to itself.
void DryComm::repeat_own_rows(const RowExchange& exchange, const Tensor& in, const Tensor& out) const {
  int64_t first = 0;
  for (int rank = 0; rank < rank_; ++rank) first += exchange.send_rows[rank];
  int64_t to = 0;
  for (int source = 0; source < size_; ++source) {
    for (int64_t i = 0; i < exchange.receive_rows[source]; ++i, ++to) {
      const int64_t row = first + i % std::max<int64_t>(1, exchange.send_rows[rank_]);
      const int64_t from = exchange.indices.empty() ? row : exchange.indices[row];
      std::memcpy(raw_row<int32_t>(out, to), raw_row<int32_t>(in, from),
                  static_cast<size_t>(out.row_elements()) * sizeof(int32_t));
    }
  }
}

}  // namespace shoal
