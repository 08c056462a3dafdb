// SPDX-License-Identifier: Apache-2.0
#include "comm/moe_exchange.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/whole.h"
#include "comm/tree_sum.h"
#include "tensor/raw.h"

namespace shoal {
namespace {

// A pick of one home token: token * top_k + k.
using Pick = int64_t;

}  // namespace

// Words below: a column is the ranks with one ep_rank, which hold slices of the same slots; it has moe_tp ranks.
struct MoeExchange::State {
  State(Comm& comm_of, const MoeExchangeShape& shape_of, Allocator allocate_of)
      : comm(comm_of), shape(shape_of), allocate(allocate_of), ep_rank(comm_of.rank() % shape_of.ep) {
    CHECK_EQ(shape.ep * shape.moe_tp, comm.size());
    CHECK_GE(shape.slots_per_rank, 1);
  }

  int64_t ranks() const { return comm.size(); }
  int64_t column_of(int64_t rank) const { return rank % shape.ep; }
  void route(const Tensor& slots);
  Announced exchange_counts();
  void localise(const Tensor& slots) const;
  std::vector<int64_t> by_rank(const std::vector<std::vector<Pick>>& column_items) const;
  Tensor return_rows(const Tensor& outputs, std::span<const int64_t> send, std::span<const int64_t> receive);
  template <typename Row>
  void add_terms(const Tensor& received, const std::vector<std::vector<Pick>>& column_items, Row&& row_of);

  Comm& comm;
  const MoeExchangeShape shape;
  const Allocator allocate;
  const int64_t ep_rank;

  // This rank as a home.
  int64_t tokens = 0;
  int64_t top_k = 0;
  std::vector<std::vector<int64_t>> column_tokens;  // by column: its tokens, ascending
  std::vector<std::vector<Pick>> column_picks;      // by column: its picks, ascending
  // This rank as a holder of slots: by source rank.
  std::vector<int64_t> received_rows;
  std::vector<int64_t> received_picks;
};

// Which tokens and picks belong to which column.
void MoeExchange::State::route(const Tensor& slots) {
  const auto columns = static_cast<size_t>(shape.ep);
  column_tokens.assign(columns, {});
  column_picks.assign(columns, {});
  const int64_t slot_count = shape.ep * shape.slots_per_rank;
  for (int64_t token = 0; token < tokens; ++token) {
    const int32_t* row = raw_row<int32_t>(slots, token);
    for (int64_t k = 0; k < top_k; ++k) {
      if (row[k] < 0) continue;
      CHECK_LT(row[k], slot_count);
      const auto column = static_cast<size_t>(row[k] / shape.slots_per_rank);
      auto& list = column_tokens[column];
      if (list.empty() || list.back() != token) list.push_back(token);
      column_picks[column].push_back(token * top_k + k);
    }
  }
}

std::vector<int64_t> MoeExchange::State::by_rank(const std::vector<std::vector<Pick>>& column_items) const {
  std::vector<int64_t> counts(static_cast<size_t>(ranks()));
  for (int64_t rank = 0; rank < ranks(); ++rank) {
    counts[static_cast<size_t>(rank)] = static_cast<int64_t>(column_items[static_cast<size_t>(column_of(rank))].size());
  }
  return counts;
}

// Each home says how many rows and picks it has for each column, and how many tokens.
Announced MoeExchange::State::exchange_counts() {
  std::vector<int64_t> mine;
  for (const auto* items : {&column_tokens, &column_picks})
    for (const auto& list : *items) mine.push_back(static_cast<int64_t>(list.size()));
  mine.push_back(tokens);
  Announced announced;
  std::vector<MoeLoad> columns(static_cast<size_t>(shape.ep));
  received_rows.clear();
  received_picks.clear();
  for (const std::vector<int64_t>& counts : comm.all_gather_counts(mine)) {
    for (size_t column = 0; column < columns.size(); ++column) {
      columns[column].rows += counts[column];
      columns[column].picks += counts[columns.size() + column];
    }
    received_rows.push_back(counts[static_cast<size_t>(ep_rank)]);
    received_picks.push_back(counts[static_cast<size_t>(shape.ep + ep_rank)]);
    announced.divisible |= counts.back() > 1;
  }
  for (const MoeLoad& load : columns)
    announced.most = {std::max(announced.most.rows, load.rows), std::max(announced.most.picks, load.picks)};
  return announced;
}

// Global slots of received rows become local ones in place.
void MoeExchange::State::localise(const Tensor& slots) const {
  const int64_t first = ep_rank * shape.slots_per_rank;
  for (int64_t row = 0; row < slots.rows(); ++row) {
    int32_t* slot = raw_row<int32_t>(slots, row);
    for (int64_t k = 0; k < top_k; ++k) {
      const int64_t local = slot[k] - first;
      const bool here = slot[k] >= 0 && 0 <= local && local < shape.slots_per_rank;
      slot[k] = here ? static_cast<int32_t>(local) : -1;
    }
  }
}

Tensor MoeExchange::State::return_rows(const Tensor& outputs, std::span<const int64_t> send,
                                       std::span<const int64_t> receive) {
  Tensor received = allocate(DType::kF32, {sum(receive), outputs.row_elements()});
  comm.all_to_all(outputs, send, received, receive);
  return received;
}

// For each column ascending and each of its items: the tree sum over the column's ranks of the item's received rows, put into
// row_of(item), or added to it where an earlier column has been there (row_of says so).
template <typename Row>
void MoeExchange::State::add_terms(const Tensor& received, const std::vector<std::vector<Pick>>& column_items,
                                   Row&& row_of) {
  const int64_t hidden = received.row_elements();
  const std::vector<int64_t> counts = by_rank(column_items);
  std::vector<float> whole(static_cast<size_t>(hidden));
  std::vector<const float*> terms(static_cast<size_t>(shape.moe_tp));
  for (int64_t column = 0; column < shape.ep; ++column) {
    const auto& items = column_items[static_cast<size_t>(column)];
    if (items.empty()) continue;
    for (int64_t m = 0; m < shape.moe_tp; ++m) {
      const int64_t first = sum(std::span(counts).first(static_cast<size_t>(m * shape.ep + column)));
      terms[static_cast<size_t>(m)] = raw_row<float>(received, first);
    }
    for (const int64_t item : items) {
      const auto [target, started] = row_of(item);
      if (!started) {
        tree_sum(terms, target, hidden);
      } else {
        if (terms.size() > 1) tree_sum(terms, whole.data(), hidden);
        const float* term = terms.size() > 1 ? whole.data() : terms[0];
        tree_sum(std::array<const float*, 2>{target, term}, target, hidden);
      }
      for (const float*& term : terms) term += hidden;
    }
  }
}

MoeExchange::MoeExchange(Comm& comm, const MoeExchangeShape& shape, Allocator allocate)
    : state_(std::make_unique<State>(comm, shape, allocate)) {}

MoeExchange::~MoeExchange() = default;

Announced MoeExchange::announce(const Tensor& slots) {
  State& s = *state_;
  CHECK(slots.dtype() == DType::kI32);
  s.tokens = slots.rows();
  s.top_k = slots.row_elements();
  s.route(slots);
  if (!s.allocate.dry) return s.exchange_counts();
  s.received_rows.assign(static_cast<size_t>(s.ranks()), 0);
  s.received_picks = s.received_rows;
  s.received_rows.front() = s.allocate.dry->rows;
  s.received_picks.front() = s.allocate.dry->picks;
  return {.most = *s.allocate.dry};
}

Dispatched MoeExchange::dispatch(const Tensor& rows, const Tensor& slots, const Tensor& weights) {
  State& s = *state_;
  CHECK(weights.dtype() == DType::kF32);
  CHECK(slots.rows() == s.tokens && rows.rows() == s.tokens);
  CHECK(slots.shape() == weights.shape());
  std::vector<int32_t> indices;
  for (int64_t rank = 0; rank < s.ranks(); ++rank) {
    const auto& list = s.column_tokens[static_cast<size_t>(s.column_of(rank))];
    indices.insert(indices.end(), list.begin(), list.end());
  }
  const int64_t received = sum(s.received_rows);
  Dispatched result{.rows = s.allocate(rows.dtype(), {received, rows.row_elements()}),
                    .slots = s.allocate(DType::kI32, {received, s.top_k}),
                    .weights = s.allocate(DType::kF32, {received, s.top_k})};
  const int64_t used = indices.empty() ? 0 : s.tokens;  // no indices would mean all rows
  // Slots and weights travel whole: a token's few numbers cost less than saying which of them belong to the target.
  s.comm.all_to_all_rows(
      {.in = std::array{rows.slice_rows(0, used), slots.slice_rows(0, used), weights.slice_rows(0, used)},
       .indices = indices,
       .send_rows = s.by_rank(s.column_tokens),
       .out = std::array{result.rows, result.slots, result.weights},
       .receive_rows = s.received_rows});
  if (!s.allocate.dry) s.localise(result.slots);
  return result;
}

int64_t MoeExchange::received_picks() const { return sum(state_->received_picks); }

Tensor MoeExchange::combine_sums(const Tensor& outputs) {
  State& s = *state_;
  CHECK_EQ(outputs.rows(), sum(s.received_rows));
  const Tensor received = s.return_rows(outputs, s.received_rows, s.by_rank(s.column_tokens));
  const Tensor result = s.allocate(DType::kF32, {s.tokens, outputs.row_elements()});
  if (s.allocate.dry) return result;
  std::vector<bool> started(static_cast<size_t>(s.tokens));
  s.add_terms(received, s.column_tokens, [&](int64_t token) {
    const bool before = started[static_cast<size_t>(token)];
    started[static_cast<size_t>(token)] = true;
    return std::pair(raw_row<float>(result, token), before);
  });
  for (int64_t token = 0; token < s.tokens; ++token) {
    if (!started[static_cast<size_t>(token)]) std::fill_n(raw_row<float>(result, token), result.row_elements(), 0.0f);
  }
  return result;
}

Tensor MoeExchange::combine_picks(const Tensor& outputs) {
  State& s = *state_;
  CHECK_EQ(outputs.rows(), sum(s.received_picks));
  const Tensor received = s.return_rows(outputs, s.received_picks, s.by_rank(s.column_picks));
  const int64_t hidden = outputs.row_elements();
  const Tensor result = s.allocate(DType::kF32, {s.tokens, s.top_k, hidden});
  if (s.allocate.dry) return result;
  int64_t picks = 0;
  for (const auto& list : s.column_picks) picks += static_cast<int64_t>(list.size());
  float* first = raw<float>(result);
  if (picks < s.tokens * s.top_k) std::fill_n(first, result.elements(), 0.0f);
  s.add_terms(received, s.column_picks, [&](Pick pick) { return std::pair(first + pick * hidden, false); });
  return result;
}

}  // namespace shoal
