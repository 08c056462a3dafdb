// SPDX-License-Identifier: Apache-2.0
// MoE dispatch and combine against plain loops over tokens, for random routing, uneven homes and any grid of ranks.
#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <random>
#include <set>

#include "comm/conformance.h"
#include "comm/moe_exchange.h"

namespace shoal::comm_test {
namespace {

constexpr int kEighths = 8;

struct Case {
  int ep = 1;
  int moe_tp = 1;
  int64_t experts = 8;
  int64_t extra_slots = 0;  // for each EP rank, besides ceil(experts / ep)
  int64_t top_k = 2;
  int64_t tokens = 20;
  int64_t hidden = 6;
  DType dtype = DType::kF32;
  uint64_t seed = 1;
  int ranks() const { return ep * moe_tp; }
};

// A whole MoE call, decided before the ranks start.
struct Problem {
  explicit Problem(const Case& c);
  int64_t first_token(int rank) const { return first_tokens[static_cast<size_t>(rank)]; }
  int64_t slot(int64_t token, int64_t k) const { return slots[static_cast<size_t>(token * sizes.top_k + k)]; }
  int64_t expert(int64_t token, int64_t k) const { return picks[static_cast<size_t>(token * sizes.top_k + k)]; }
  float weight(int64_t token, int64_t k) const { return number(77, static_cast<uint64_t>(token * 16 + k)); }

  Case sizes;
  int64_t slots_per_rank;
  std::vector<int64_t> expert_of_slot;  // -1: empty
  std::vector<int64_t> first_tokens;    // by home, and the end
  std::vector<int64_t> picks;           // [tokens, top_k] expert, ascending in a token; the same for any placement
  std::vector<int64_t> slots;           // [tokens, top_k] a slot that holds it
};

Problem::Problem(const Case& c) : sizes(c) {
  std::mt19937_64 placement_random(c.seed), routing_random(5);
  slots_per_rank = (c.experts + c.ep - 1) / c.ep + c.extra_slots;
  for (int64_t s = 0; s < slots_per_rank * c.ep; ++s) {
    if (s < c.experts) {
      expert_of_slot.push_back(s);
    } else {
      expert_of_slot.push_back(s % 2 ? -1
                                     : static_cast<int64_t>(placement_random() % static_cast<uint64_t>(c.experts)));
    }
  }
  std::shuffle(expert_of_slot.begin(), expert_of_slot.end(), placement_random);
  for (int rank = 0; rank <= c.ranks(); ++rank) {  // homes with none: 0, then any
    first_tokens.push_back(rank == 0 ? 0
                                     : static_cast<int64_t>(placement_random() % static_cast<uint64_t>(c.tokens + 1)));
  }
  first_tokens[static_cast<size_t>(c.ranks())] = c.tokens;
  if (c.ranks() > 1) first_tokens[1] = 0;
  std::sort(first_tokens.begin(), first_tokens.end());
  for (int64_t token = 0; token < c.tokens; ++token) {
    std::set<int64_t> chosen;
    while (static_cast<int64_t>(chosen.size()) < c.top_k)
      chosen.insert(static_cast<int64_t>(routing_random() % static_cast<uint64_t>(c.experts)));
    for (const int64_t e : chosen) {
      std::vector<int64_t> copies;
      for (size_t s = 0; s < expert_of_slot.size(); ++s) {
        if (expert_of_slot[s] == e) copies.push_back(static_cast<int64_t>(s));
      }
      picks.push_back(e);
      slots.push_back(copies[placement_random() % copies.size()]);
    }
  }
}

// Element h of what eighth `eighth` of an expert's weights makes of an input element.
float eighth_of(int64_t expert, int eighth, float input, int64_t h) {
  return input * number(static_cast<uint64_t>(100 + expert), static_cast<uint64_t>(eighth * 1000 + h));
}

// What MoE-TP rank m of `parts` computes: its eighths, added as the tree does.
float expert_part(int64_t expert, int m, int parts, float input, int64_t h) {
  const int first = kEighths * m / parts, last = kEighths * (m + 1) / parts;
  return tree_oracle(first, last - first, [&](int eighth) { return eighth_of(expert, eighth, input, h); });
}

float input_of(int64_t token, int64_t h) {
  return to_float(to_bfloat16(number(9, static_cast<uint64_t>(token * 100 + h))));
}

float read(const Tensor& tensor, int64_t row, int64_t column) {
  return tensor.dtype() == DType::kF32 ? raw_row<float>(tensor, row)[column]
                                       : to_float(raw_row<BFloat16>(tensor, row)[column]);
}

struct Home {
  Tensor rows, slots, weights;
};

Home home_of(const Problem& p, int rank) {
  const int64_t first = p.first_token(rank), count = p.first_token(rank + 1) - first;
  Home home{.rows = make_strided(p.sizes.dtype, count, p.sizes.hidden, 4),
            .slots = make_tensor(DType::kI32, {count, p.sizes.top_k}),
            .weights = make_tensor(DType::kF32, {count, p.sizes.top_k})};
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t h = 0; h < p.sizes.hidden; ++h) {
      const float value = input_of(first + t, h);
      if (p.sizes.dtype == DType::kF32) raw_row<float>(home.rows, t)[h] = value;
      if (p.sizes.dtype == DType::kBF16) raw_row<BFloat16>(home.rows, t)[h] = to_bfloat16(value);
    }
    for (int64_t k = 0; k < p.sizes.top_k; ++k) {
      raw_row<int32_t>(home.slots, t)[k] = static_cast<int32_t>(p.slot(first + t, k));
      raw_row<float>(home.weights, t)[k] = p.weight(first + t, k);
    }
  }
  return home;
}

MoeExchange make_exchange(Comm& comm, const Problem& p) {
  return {comm,
          {.ep = p.sizes.ep, .moe_tp = p.sizes.moe_tp, .slots_per_rank = p.slots_per_rank},
          {.function = [](void*, DType dtype, const Shape& shape) { return make_tensor(dtype, shape); }}};
}

// What the rank gets that gets most.
void check_announced(const Problem& p, const Announced& got) {
  std::vector<MoeLoad> loads(static_cast<size_t>(p.sizes.ep));
  for (int64_t token = 0; token < p.sizes.tokens; ++token) {
    std::set<int64_t> columns;
    for (int64_t k = 0; k < p.sizes.top_k; ++k) {
      const int64_t column = p.slot(token, k) / p.slots_per_rank;
      columns.insert(column);
      ++loads[static_cast<size_t>(column)].picks;
    }
    for (const int64_t column : columns) ++loads[static_cast<size_t>(column)].rows;
  }
  EXPECT_EQ(got.most.rows, std::ranges::max(loads, {}, &MoeLoad::rows).rows);
  EXPECT_EQ(got.most.picks, std::ranges::max(loads, {}, &MoeLoad::picks).picks);
  bool divisible = false;
  for (int rank = 0; rank < p.sizes.ranks(); ++rank) divisible |= p.first_token(rank + 1) - p.first_token(rank) > 1;
  EXPECT_EQ(got.divisible, divisible);
}

// The rows that a rank must receive: (source rank order) every token with a slot in its column, once.
void check_dispatched(const Problem& p, int rank, const Dispatched& got) {
  const int64_t column = rank % p.sizes.ep;
  int64_t row = 0;
  for (int64_t token = 0; token < p.sizes.tokens; ++token) {
    std::vector<int32_t> local;
    for (int64_t k = 0; k < p.sizes.top_k; ++k) {
      const int64_t slot = p.slot(token, k);
      local.push_back(slot / p.slots_per_rank == column ? static_cast<int32_t>(slot % p.slots_per_rank) : -1);
    }
    if (std::ranges::all_of(local, [](int32_t s) { return s < 0; })) continue;
    ASSERT_LT(row, got.rows.rows());
    EXPECT_TRUE(std::equal(local.begin(), local.end(), raw_row<int32_t>(got.slots, row)));
    for (int64_t k = 0; k < p.sizes.top_k; ++k) EXPECT_EQ(raw_row<float>(got.weights, row)[k], p.weight(token, k));
    for (int64_t h = 0; h < p.sizes.hidden; ++h) EXPECT_EQ(read(got.rows, row, h), input_of(token, h));
    ++row;
  }
  EXPECT_EQ(row, got.rows.rows()) << "each token once";
  EXPECT_TRUE(got.rows.dtype() == p.sizes.dtype);
}

// This rank's experts, from what it received alone. `each_pick`: one unweighted row a pick; otherwise the weighted sum of the row.
Tensor compute_experts(const Problem& p, int rank, const Dispatched& in, bool each_pick) {
  const int64_t first_slot = rank % p.sizes.ep * p.slots_per_rank;
  std::vector<std::vector<float>> rows;
  for (int64_t row = 0; row < in.rows.rows(); ++row) {
    std::vector<float> sum(static_cast<size_t>(p.sizes.hidden));
    for (int64_t k = 0; k < p.sizes.top_k; ++k) {
      const int32_t slot = raw_row<int32_t>(in.slots, row)[k];
      if (slot < 0) continue;
      const int64_t expert = p.expert_of_slot[static_cast<size_t>(first_slot + slot)];
      std::vector<float> term(sum.size());
      for (int64_t h = 0; h < p.sizes.hidden; ++h) {
        term[static_cast<size_t>(h)] = expert_part(expert, rank / p.sizes.ep, p.sizes.moe_tp, read(in.rows, row, h), h);
        sum[static_cast<size_t>(h)] += raw_row<float>(in.weights, row)[k] * term[static_cast<size_t>(h)];
      }
      if (each_pick) rows.push_back(term);
    }
    if (!each_pick) rows.push_back(sum);
  }
  const Tensor out = make_tensor(DType::kF32, {static_cast<int64_t>(rows.size()), p.sizes.hidden});
  for (size_t r = 0; r < rows.size(); ++r) std::ranges::copy(rows[r], raw_row<float>(out, static_cast<int64_t>(r)));
  return out;
}

// Documented order of combine_sums: EP ranks ascending, each the tree over moe_tp of the ranks' weighted sums (ascending picks).
float expected_sum(const Problem& p, int64_t token, int64_t h) {
  float result = 0;
  for (int64_t column = 0; column < p.sizes.ep; ++column) {
    result += tree_oracle(0, p.sizes.moe_tp, [&](int m) {
      float sum = 0;
      for (int64_t k = 0; k < p.sizes.top_k; ++k) {
        if (p.slot(token, k) / p.slots_per_rank != column) continue;
        sum += p.weight(token, k) * expert_part(p.expert(token, k), m, p.sizes.moe_tp, input_of(token, h), h);
      }
      return sum;
    });
  }
  return result;
}

// Without any order: the sum, and how much rounding it may carry.
std::pair<float, float> plain_sum(const Problem& p, int64_t token, int64_t h) {
  double result = 0, magnitude = 0;
  for (int64_t k = 0; k < p.sizes.top_k; ++k) {
    for (int e = 0; e < kEighths; ++e) {
      const double term = double{p.weight(token, k)} * eighth_of(p.expert(token, k), e, input_of(token, h), h);
      result += term;
      magnitude += std::abs(term);
    }
  }
  return {static_cast<float>(result), static_cast<float>(magnitude * 1e-6)};
}

const std::vector<Case> kCases{
    {.ep = 1, .moe_tp = 1},
    {.ep = 2, .moe_tp = 1, .experts = 4, .tokens = 3},
    {.ep = 4, .moe_tp = 1, .experts = 32, .top_k = 8, .tokens = 50, .hidden = 300},
    {.ep = 3, .moe_tp = 1, .experts = 8, .top_k = 3, .tokens = 31, .dtype = DType::kBF16},
    {.ep = 5, .moe_tp = 1, .experts = 7, .extra_slots = 1, .tokens = 40},
    {.ep = 8, .moe_tp = 1, .experts = 20, .extra_slots = 1, .top_k = 16, .tokens = 33},
    {.ep = 1, .moe_tp = 4, .tokens = 9},
    {.ep = 2, .moe_tp = 2, .experts = 5, .extra_slots = 2, .tokens = 64, .hidden = 260, .dtype = DType::kBF16},
    {.ep = 2, .moe_tp = 3, .tokens = 12},
    {.ep = 2, .moe_tp = 4, .experts = 6, .top_k = 4, .tokens = 25},
    {.ep = 4, .moe_tp = 2, .experts = 32, .top_k = 4, .tokens = 200, .hidden = 128},
    {.ep = 4, .moe_tp = 2, .experts = 8, .tokens = 1},
    {.ep = 7, .moe_tp = 1, .experts = 16, .tokens = 0},
};

TEST_P(CommConformance, MoeDispatchesEachTokenOncePerRankAndAddsUp) {
  for (Case c : kCases) {
    for (c.seed = 1; c.seed <= 3; ++c.seed) {
      const Problem p(c);
      run_all(c.ranks(), [&](Comm& comm) {
        MoeExchange exchange = make_exchange(comm, p);
        const Home home = home_of(p, comm.rank());
        for (int call = 0; call < 2; ++call) {  // the object serves more than one
          check_announced(p, exchange.announce(home.slots));
          const Dispatched got = exchange.dispatch(home.rows, home.slots, home.weights);
          check_dispatched(p, comm.rank(), got);
          const Tensor sums = exchange.combine_sums(compute_experts(p, comm.rank(), got, false));
          ASSERT_EQ(sums.rows(), home.rows.rows());
          const int64_t first = p.first_token(comm.rank());
          EXPECT_TRUE(equals(sums, [&](int64_t t, int64_t h) { return expected_sum(p, first + t, h); })) << comm.name();
          for (int64_t t = 0; t < sums.rows(); ++t) {
            const auto [sum, rounding] = plain_sum(p, first + t, 0);
            EXPECT_NEAR(raw_row<float>(sums, t)[0], sum, rounding);
          }
        }
      });
    }
  }
}

// [tokens, top_k, hidden] of the whole problem, put together from all homes.
using RunAll = std::function<void(int, const std::function<void(Comm&)>&)>;
std::vector<float> all_picks(const Problem& p, const RunAll& run) {
  std::vector<float> result(static_cast<size_t>(p.sizes.tokens * p.sizes.top_k * p.sizes.hidden));
  run(p.sizes.ranks(), [&](Comm& comm) {
    MoeExchange exchange = make_exchange(comm, p);
    const Home home = home_of(p, comm.rank());
    exchange.announce(home.slots);
    const Dispatched got = exchange.dispatch(home.rows, home.slots, home.weights);
    const Tensor picks = exchange.combine_picks(compute_experts(p, comm.rank(), got, true));
    ASSERT_TRUE(picks.shape() == (Shape{home.rows.rows(), p.sizes.top_k, p.sizes.hidden}));
    const int64_t at = p.first_token(comm.rank()) * p.sizes.top_k * p.sizes.hidden;
    std::copy_n(raw<float>(picks), picks.elements(), result.begin() + at);
  });
  return result;
}

TEST_P(CommConformance, MoePicksAreTheSameBitsUnderAnyPlacement) {
  Case c{.experts = 12, .top_k = 5, .tokens = 37, .hidden = 70, .dtype = DType::kBF16};
  const auto run_ranks = [this](int size, const std::function<void(Comm&)>& body) { run_all(size, body); };
  const std::vector<float> one_rank = all_picks(Problem(c), run_ranks);
  const Problem p(c);
  for (int64_t pick = 0; pick < c.tokens * c.top_k; ++pick) {
    const float expected = expert_part(p.picks[static_cast<size_t>(pick)], 0, 1, input_of(pick / c.top_k, 3), 3);
    EXPECT_EQ(one_rank[static_cast<size_t>(pick * c.hidden + 3)], expected);
  }
  const std::vector<std::array<int, 2>> grids{{1, 2}, {1, 4}, {1, 8}, {2, 1}, {2, 2}, {2, 4},
                                              {4, 1}, {4, 2}, {8, 1}, {3, 1}, {3, 2}, {5, 1}};
  for (const auto& [ep, moe_tp] : grids) {
    c.ep = ep;
    c.moe_tp = moe_tp;
    for (c.extra_slots = 0; c.extra_slots <= 3; c.extra_slots += 3) {
      c.seed += 17;
      const std::vector<float> many = all_picks(Problem(c), run_ranks);
      EXPECT_EQ(std::memcmp(many.data(), one_rank.data(), many.size() * sizeof(float)), 0) << ep << " x " << moe_tp;
    }
  }
}

// Slots of -1 are no picks; a token may have none.
TEST_P(CommConformance, MoeTokensWithoutPicksComeBackAsZero) {
  run_all(2, [](Comm& comm) {
    MoeExchange exchange(
        comm, {.ep = 2, .moe_tp = 1, .slots_per_rank = 1},
        {.function = [](void*, DType dtype, const Shape& shape) { return make_tensor(dtype, shape); }});
    const Tensor rows = make_tensor(DType::kF32, {3, 2});
    fill(rows, [&](int64_t r, int64_t) { return static_cast<float>(10 * comm.rank() + r + 1); });
    const Tensor slots = make_tensor(DType::kI32, {3, 2});
    const Tensor weights = make_tensor(DType::kF32, {3, 2});
    fill(weights, [](int64_t, int64_t) { return 1.0f; });
    for (const bool any : {true, false}) {  // in the first call, token 1 alone has a pick: slot 1, on rank 1
      std::fill_n(raw<int32_t>(slots), 6, -1);
      if (any) raw_row<int32_t>(slots, 1)[1] = 1;
      EXPECT_EQ(exchange.announce(slots).most.picks, any ? 2 : 0);
      const Dispatched got = exchange.dispatch(rows, slots, weights);
      ASSERT_EQ(got.rows.rows(), any && comm.rank() == 1 ? 2 : 0);
      const Tensor sums = exchange.combine_sums(got.rows);
      const auto expected = [&](int64_t r, int64_t) {
        return any && r == 1 ? static_cast<float>(10 * comm.rank() + 2) : 0.0f;
      };
      EXPECT_TRUE(equals(sums, expected));
      exchange.dispatch(rows, slots, weights);
      const Tensor picks = exchange.combine_picks(got.rows);
      EXPECT_TRUE(equals(picks, [&](int64_t r, int64_t c) { return c / 2 == 1 ? expected(r, 0) : 0.0f; }));
    }
  });
}

}  // namespace
}  // namespace shoal::comm_test
