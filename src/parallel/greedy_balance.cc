// SPDX-License-Identifier: Apache-2.0
#include "parallel/greedy_balance.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "base/error.h"
#include "parallel/node_layout.h"

namespace shoal {
namespace {

void check_grid(int64_t experts, const SlotGrid& grid) {
  Problems problems;
  problems.append(slot_grid_problems(experts, grid));
  problems.throw_if_any("experts cannot be placed");
}

std::vector<int64_t> heaviest_first(std::span<const double> loads) {
  std::vector<int64_t> order(loads.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return loads[a] > loads[b]; });
  return order;
}

// Heaviest first into the lightest pack with room: the pack of each item. Packs hold items / packs each.
std::vector<int64_t> packed(std::span<const double> loads, int64_t packs) {
  const int64_t room = static_cast<int64_t>(loads.size()) / packs;
  std::vector<double> load_of_pack(packs);
  std::vector<int64_t> items(packs);
  std::vector<int64_t> pack_of_item(loads.size());
  for (const int64_t item : heaviest_first(loads)) {
    int64_t lightest = -1;
    for (int64_t pack = 0; pack < packs; ++pack) {
      if (items[pack] == room) continue;
      if (lightest < 0 || load_of_pack[pack] < load_of_pack[lightest]) lightest = pack;
    }
    pack_of_item[item] = lightest;
    load_of_pack[lightest] += loads[item];
    ++items[lightest];
  }
  return pack_of_item;
}

// Copies, as indices of `loads`: each once in order, then the further ones in the order in which they are given.
struct Copies {
  std::vector<int64_t> item;
  std::vector<double> load;  // of each copy
};

Copies copied(std::span<const double> loads, int64_t slots) {
  Copies copies;
  copies.item.resize(loads.size());
  std::iota(copies.item.begin(), copies.item.end(), 0);
  std::vector<double> count(loads.size(), 1);
  while (static_cast<int64_t>(copies.item.size()) < slots) {
    size_t most = 0;
    for (size_t i = 1; i < loads.size(); ++i) {
      if (loads[i] / count[i] > loads[most] / count[most]) most = i;
    }
    ++count[most];
    copies.item.push_back(static_cast<int64_t>(most));
  }
  for (const int64_t item : copies.item) copies.load.push_back(loads[item] / count[item]);
  return copies;
}

// Each rank's list of experts as slots.
Placement as_placement(const std::vector<std::vector<int64_t>>& ranks, int64_t experts) {
  std::vector<ExpertId> slots;
  for (const std::vector<int64_t>& rank : ranks) {
    for (const int64_t expert : rank) slots.push_back({static_cast<int32_t>(expert)});
  }
  return Placement(std::move(slots), experts, static_cast<int64_t>(ranks.size()));
}

// Puts copies of `experts` with `loads` onto `ranks`.
void place(std::span<const int64_t> experts, std::span<const double> loads, std::span<std::vector<int64_t>> ranks) {
  const int64_t slots_per_rank = static_cast<int64_t>(ranks.front().capacity());
  const Copies copies = copied(loads, slots_per_rank * static_cast<int64_t>(ranks.size()));
  const std::vector<int64_t> rank = packed(copies.load, static_cast<int64_t>(ranks.size()));
  for (size_t i = 0; i < copies.item.size(); ++i) ranks[rank[i]].push_back(experts[copies.item[i]]);
}

std::vector<std::vector<int64_t>> empty_ranks(const SlotGrid& grid) {
  std::vector<std::vector<int64_t>> ranks(grid.ep);
  for (auto& rank : ranks) rank.reserve(grid.slots / grid.ep);
  return ranks;
}

// TensorRT-LLM's first step and second step, over copies.
class PairPacking {
 public:
  PairPacking(const Copies& copies, std::span<const int64_t> pairs, int64_t experts, const SlotGrid& grid)
      : copies_(copies),
        pairs_(pairs),
        experts_(experts),
        slots_per_rank_(grid.slots / grid.ep),
        placed_(copies.item.size()),
        ranks_(grid.ep),
        load_of_rank_(grid.ep) {}

  Placement run(double alpha) {
    const double mean = std::accumulate(copies_.load.begin(), copies_.load.end(), 0.0) / load_of_rank_.size();
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      while (ranks_[rank].size() < alpha * slots_per_rank_ && load_of_rank_[rank] < alpha * mean &&
             add_companion(rank)) {
      }
    }
    for (const int64_t copy : heaviest_first(copies_.load)) {
      if (!placed_[copy]) put(copy, lightest_with_room());
    }
    return as_placement(ranks_, experts_);
  }

 private:
  // The copy that occurs most with what the rank holds; without any, the heaviest.
  bool add_companion(size_t rank) {
    int64_t best = -1;
    std::pair<int64_t, double> most;
    for (size_t copy = 0; copy < placed_.size(); ++copy) {
      if (placed_[copy]) continue;
      int64_t together = 0;
      for (const int64_t held : ranks_[rank]) together += pairs_[copies_.item[copy] * experts_ + held];
      const std::pair<int64_t, double> key(together, copies_.load[copy]);
      if (best >= 0 && key <= most) continue;
      best = static_cast<int64_t>(copy);
      most = key;
    }
    if (best < 0 || static_cast<int64_t>(ranks_[rank].size()) == slots_per_rank_) return false;
    put(best, rank);
    return true;
  }

  size_t lightest_with_room() const {
    size_t lightest = ranks_.size();
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      if (static_cast<int64_t>(ranks_[rank].size()) == slots_per_rank_) continue;
      if (lightest == ranks_.size() || load_of_rank_[rank] < load_of_rank_[lightest]) lightest = rank;
    }
    return lightest;
  }

  void put(int64_t copy, size_t rank) {
    placed_[copy] = true;
    ranks_[rank].push_back(copies_.item[copy]);
    load_of_rank_[rank] += copies_.load[copy];
  }

  const Copies& copies_;
  std::span<const int64_t> pairs_;
  int64_t experts_;
  int64_t slots_per_rank_;
  std::vector<bool> placed_;
  std::vector<std::vector<int64_t>> ranks_;
  std::vector<double> load_of_rank_;
};

}  // namespace

Placement greedy_placement(std::span<const double> load_of_expert, const SlotGrid& grid) {
  const int64_t experts = static_cast<int64_t>(load_of_expert.size());
  check_grid(experts, grid);
  std::vector<int64_t> all(experts);
  std::iota(all.begin(), all.end(), 0);
  std::vector<std::vector<int64_t>> ranks = empty_ranks(grid);
  place(all, load_of_expert, ranks);
  return as_placement(ranks, experts);
}

Placement hierarchical_placement(std::span<const double> load_of_expert, const SlotGrid& grid, int64_t groups) {
  const int64_t experts = static_cast<int64_t>(load_of_expert.size());
  check_grid(experts, grid);
  if (groups < 1 || experts % groups != 0 || groups % grid.nodes != 0) {
    throw Error(ErrorKind::kInvalid, std::to_string(groups) + " expert groups, must be a divisor of " +
                                         std::to_string(experts) + " experts and a multiple of " +
                                         std::to_string(grid.nodes) + " nodes");
  }
  const int64_t group_size = experts / groups;
  std::vector<double> load_of_group(groups);
  for (int64_t expert = 0; expert < experts; ++expert) load_of_group[expert / group_size] += load_of_expert[expert];
  const std::vector<int64_t> node_of_group = packed(load_of_group, grid.nodes);
  std::vector<std::vector<int64_t>> ranks = empty_ranks(grid);
  const int64_t ranks_per_node = grid.ep / grid.nodes;
  for (int64_t node = 0; node < grid.nodes; ++node) {
    std::vector<int64_t> own;
    std::vector<double> loads;
    for (int64_t expert = 0; expert < experts; ++expert) {
      if (node_of_group[expert / group_size] != node) continue;
      own.push_back(expert);
      loads.push_back(load_of_expert[expert]);
    }
    place(own, loads, std::span(ranks).subspan(node * ranks_per_node, ranks_per_node));
  }
  return as_placement(ranks, experts);
}

Placement cooccurrence_placement(std::span<const double> load_of_expert, std::span<const int64_t> pairs,
                                 const SlotGrid& grid, double alpha) {
  const int64_t experts = static_cast<int64_t>(load_of_expert.size());
  check_grid(experts, grid);
  CHECK_EQ(static_cast<int64_t>(pairs.size()), experts * experts);
  const Copies copies = copied(load_of_expert, grid.slots);
  const Placement placement = PairPacking(copies, pairs, experts, grid).run(alpha);
  return grid.nodes > 1 ? laid_over_nodes(placement, load_of_expert, grid.nodes) : placement;
}

}  // namespace shoal
