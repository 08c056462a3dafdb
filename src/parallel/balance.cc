// SPDX-License-Identifier: Apache-2.0
#include "parallel/balance.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>
#include <tuple>

#include "base/error.h"
#include "parallel/node_layout.h"
#include "parallel/replica_split.h"
#include "parallel/slot_board.h"

namespace shoal {
namespace {

// A further copy goes to the expert with the largest load / copies^exponent. At 1 copies are as light as they can be; below 1 fewer experts
// have more copies each, which ties more ranks together. Swaps even out what that costs in packing.
constexpr double kCopyExponent = 0.8;
constexpr double kOtherExponents[] = {0.6, 1.0};  // tried as well where there are batches to judge by
constexpr double kLevel = 1.0003;                 // max/mean at which swaps stop
constexpr int kMaxSwaps = 400;

std::vector<int32_t> copy_counts(const std::vector<double>& loads, const SlotGrid& grid, double exponent) {
  struct Candidate {
    double load;
    int32_t expert;
    bool operator<(const Candidate& other) const {
      return load != other.load ? load < other.load : expert > other.expert;
    }
  };
  const int64_t experts = static_cast<int64_t>(loads.size());
  std::vector<int32_t> copies(experts, 1);
  std::priority_queue<Candidate> heaviest;
  if (grid.ep > 1) {
    for (int32_t expert = 0; expert < experts; ++expert) heaviest.push({loads[expert], expert});
  }
  for (int64_t left = grid.slots - experts; left > 0 && !heaviest.empty(); --left) {
    const int32_t expert = heaviest.top().expert;
    heaviest.pop();
    if (++copies[expert] < grid.ep) heaviest.push({loads[expert] / std::pow(copies[expert], exponent), expert});
  }
  return copies;
}

// Ranks tied together by experts that they share.
class Ties {
 public:
  explicit Ties(int64_t ranks) : parent_(ranks) { std::iota(parent_.begin(), parent_.end(), 0); }
  int64_t group(int64_t rank) const {
    while (parent_[rank] != rank) rank = parent_[rank];
    return rank;
  }
  void tie(int64_t a, int64_t b) { parent_[group(a)] = group(b); }

 private:
  std::vector<int64_t> parent_;
};

// Lays out one layer: first the experts with several copies, so that they tie the ranks together, then the others where there is least load.
class Layout {
 public:
  Layout(const std::vector<double>& loads, const SlotGrid& grid, double exponent)
      : board_(static_cast<int64_t>(loads.size()), grid.ep, grid.slots / grid.ep),
        copies_(copy_counts(loads, grid, exponent)),
        load_of_copy_(loads),
        load_of_rank_(grid.ep),
        shared_on_rank_(grid.ep),
        used_slots_(grid.ep),
        load_of_slot_(grid.slots),
        shared_slot_(grid.slots) {
    for (size_t expert = 0; expert < loads.size(); ++expert) load_of_copy_[expert] /= copies_[expert];
  }

  SlotBoard run() {
    std::vector<int32_t> order(copies_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      if ((copies_[a] > 1) != (copies_[b] > 1)) return copies_[a] > 1;
      return load_of_copy_[a] > load_of_copy_[b];
    });
    Ties ties(board_.ep());
    for (const int32_t expert : order) place_copies(expert, ties);
    level();
    return std::move(board_);
  }

 private:
  bool shared(int32_t expert) const { return copies_[expert] > 1; }

  void place_copies(int32_t expert, Ties& ties) {
    std::vector<int64_t> chosen;
    for (int32_t copy = 0; copy < copies_[expert]; ++copy) {
      int64_t rank = best_rank(expert, chosen, ties);
      if (rank < 0) rank = make_room(expert);
      put(first_free(rank), expert);
      chosen.push_back(rank);
    }
    for (const int64_t rank : chosen) ties.tie(rank, chosen.front());
  }

  // Of the ranks with room: for a shared expert the one with fewest of them, then one not yet tied to the copies so far, then the lightest.
  int64_t best_rank(int32_t expert, const std::vector<int64_t>& chosen, const Ties& ties) const {
    int64_t best = -1;
    bool best_tied = false;
    for (int64_t rank = 0; rank < board_.ep(); ++rank) {
      if (used_slots_[rank] == board_.slots_per_rank() || board_.holds(rank, expert)) continue;
      const bool tied = shared(expert) && std::any_of(chosen.begin(), chosen.end(), [&](int64_t other) {
                          return ties.group(other) == ties.group(rank);
                        });
      const auto key = [&](int64_t r, bool is_tied) {
        return std::tuple(shared(expert) ? shared_on_rank_[r] : 0, is_tied, load_of_rank_[r]);
      };
      if (best >= 0 && key(best, best_tied) <= key(rank, tied)) continue;
      best = rank;
      best_tied = tied;
    }
    return best;
  }

  // Every rank with room holds the expert: a full rank without it passes one of its own experts to such a rank. There is one, because
  // the full rank has more experts than the other, which has a free slot and this expert besides.
  int64_t make_room(int32_t expert) {
    int64_t target = 0;
    while (used_slots_[target] == board_.slots_per_rank()) ++target;
    for (int64_t slot = 0; slot < board_.slots(); ++slot) {
      const int64_t rank = board_.rank_of(slot);
      const int32_t moved = board_.expert(slot);
      if (moved < 0 || board_.holds(rank, expert) || board_.holds(target, moved)) continue;
      take(slot);
      put(first_free(target), moved);
      return rank;
    }
    check_failed(__FILE__, __LINE__, "no rank can take a further copy");
  }

  int64_t first_free(int64_t rank) const { return board_.empty_slot(rank); }
  void put(int64_t slot, int32_t expert) { account(slot, expert, 1); }
  void take(int64_t slot) { account(slot, board_.expert(slot), -1); }
  void account(int64_t slot, int32_t expert, int sign) {
    const int64_t rank = board_.rank_of(slot);
    board_.set(slot, sign > 0 ? expert : -1);
    load_of_rank_[rank] += sign * load_of_copy_[expert];
    shared_on_rank_[rank] += shared(expert) ? sign : 0;
    used_slots_[rank] += sign;
  }

  // The heaviest rank exchanges one expert with another rank, whichever pair leaves the heavier of both lightest, until ranks are level
  // or no exchange helps. Shared experts are exchanged for shared ones only, so that ranks stay tied.
  void level() {
    for (int64_t slot = 0; slot < board_.slots(); ++slot) {
      const int32_t expert = board_.expert(slot);
      load_of_slot_[slot] = expert < 0 ? 0 : load_of_copy_[expert];
      shared_slot_[slot] = expert >= 0 && shared(expert);
    }
    const double mean = std::accumulate(load_of_rank_.begin(), load_of_rank_.end(), 0.0) / board_.ep();
    for (int swaps = 0; swaps < kMaxSwaps; ++swaps) {
      const int64_t heaviest = std::max_element(load_of_rank_.begin(), load_of_rank_.end()) - load_of_rank_.begin();
      if (load_of_rank_[heaviest] <= mean * kLevel) return;
      const Swap swap = best_swap(heaviest);
      if (swap.from < 0) return;
      const double less = load_of_slot_[swap.from] - load_of_slot_[swap.to];
      load_of_rank_[heaviest] -= less;
      load_of_rank_[board_.rank_of(swap.to)] += less;
      std::swap(load_of_slot_[swap.from], load_of_slot_[swap.to]);
      board_.swap(swap.from, swap.to);
    }
  }

  struct Swap {
    int64_t from = -1;
    int64_t to = -1;
    double highest = 0;  // load of the heavier rank afterwards
  };
  Swap best_swap(int64_t heaviest) const {
    Swap best{.highest = load_of_rank_[heaviest] * (1 - 1e-9)};
    const int64_t begin = heaviest * board_.slots_per_rank();
    for (int64_t from = begin; from < begin + board_.slots_per_rank(); ++from) {
      if (board_.expert(from) < 0) continue;
      for (int64_t rank = 0; rank < board_.ep(); ++rank) {
        if (load_of_rank_[rank] < best.highest) improve_swap(from, rank, best);
      }
    }
    return best;
  }

  void improve_swap(int64_t from, int64_t rank, Swap& best) const {
    const double load = load_of_slot_[from];
    const double rest = load_of_rank_[board_.rank_of(from)] - load;  // with the other expert in its place
    const double gained = load_of_rank_[rank] + load;
    const int64_t begin = rank * board_.slots_per_rank();
    for (int64_t to = begin; to < begin + board_.slots_per_rank(); ++to) {
      const double other = load_of_slot_[to];
      const double highest = std::max(rest + other, gained - other);
      if (highest >= best.highest || other >= load || shared_slot_[to] != shared_slot_[from]) continue;
      if (board_.expert(to) >= 0 && exchangeable(from, to)) best = {from, to, highest};
    }
  }

  bool exchangeable(int64_t a, int64_t b) const {
    return !board_.holds(board_.rank_of(a), board_.expert(b)) && !board_.holds(board_.rank_of(b), board_.expert(a));
  }

  SlotBoard board_;
  std::vector<int32_t> copies_;
  std::vector<double> load_of_copy_;
  std::vector<double> load_of_rank_;
  std::vector<int32_t> shared_on_rank_;
  std::vector<int64_t> used_slots_;
  std::vector<double> load_of_slot_;  // for level()
  std::vector<uint8_t> shared_slot_;
};

double mean_split_imbalance(const Placement& placement, const std::vector<std::vector<int64_t>>& batches) {
  ReplicaSplit split(placement);
  double sum = 0;
  for (const std::vector<int64_t>& batch : batches) {
    split.split(batch);
    sum += imbalance(split.tokens_of_rank());
  }
  return sum / static_cast<double>(batches.size());
}

}  // namespace

std::vector<std::string> slot_grid_problems(int64_t experts, const SlotGrid& grid) {
  std::vector<std::string> problems;
  if (grid.ep < 1) {
    problems.push_back("the expert-parallel size is " + std::to_string(grid.ep) + ", must be at least 1");
    return problems;
  }
  const int64_t least = (experts + grid.ep - 1) / grid.ep * grid.ep;
  if (grid.slots < experts) {
    problems.push_back(std::to_string(grid.slots) + " slots for " + std::to_string(experts) +
                       " experts, must be at least one each; nearest: " + std::to_string(least));
  } else if (grid.slots % grid.ep != 0) {
    const int64_t below = grid.slots / grid.ep * grid.ep;
    problems.push_back(std::to_string(grid.slots) + " slots, must be a multiple of the expert-parallel size " +
                       std::to_string(grid.ep) + "; nearest: " +
                       (below >= least ? std::to_string(below) + " or " : "") + std::to_string(below + grid.ep));
  }
  if (grid.nodes < 1 || grid.ep % grid.nodes != 0) {
    problems.push_back(std::to_string(grid.nodes) + " nodes, must be a divisor of the expert-parallel size " +
                       std::to_string(grid.ep));
  }
  return problems;
}

Placement plan_placement(const LayerLoads& loads, const SlotGrid& grid) {
  const int64_t experts = static_cast<int64_t>(loads.mean.size());
  Problems problems;
  problems.append(slot_grid_problems(experts, grid));
  problems.throw_if_any("experts cannot be placed");
  double total = 0;
  for (const double load : loads.mean) {
    CHECK(std::isfinite(load) && load >= 0);
    total += load;
  }
  // Nothing is known of a layer without load: every expert counts the same.
  const std::vector<double> mean = total > 0 ? loads.mean : std::vector<double>(experts, 1.0);
  Placement best = Layout(mean, grid, kCopyExponent).run().placement();
  if (!loads.batches.empty()) {
    double lowest = mean_split_imbalance(best, loads.batches);
    for (const double exponent : kOtherExponents) {
      Placement other = Layout(mean, grid, exponent).run().placement();
      const double reached = mean_split_imbalance(other, loads.batches);
      if (reached >= lowest) continue;
      lowest = reached;
      best = std::move(other);
    }
  }
  return grid.nodes > 1 ? laid_over_nodes(best, mean, grid.nodes) : best;
}

double imbalance(std::span<const int64_t> tokens_of_rank) {
  int64_t highest = 0;
  int64_t sum = 0;
  for (const int64_t tokens : tokens_of_rank) {
    highest = std::max(highest, tokens);
    sum += tokens;
  }
  if (sum == 0) return 0;
  return static_cast<double>(highest) * static_cast<double>(tokens_of_rank.size()) / static_cast<double>(sum) - 1;
}

double split_imbalance(const Placement& placement, std::span<const int64_t> tokens_of_expert) {
  ReplicaSplit split(placement);
  split.split(tokens_of_expert);
  return imbalance(split.tokens_of_rank());
}

double even_imbalance(const Placement& placement, std::span<const double> load_of_expert) {
  std::vector<double> load_of_rank(placement.ep());
  for (int32_t slot = 0; slot < placement.slots(); ++slot) {
    const ExpertId expert = placement.expert({slot});
    if (expert == kNoExpert) continue;
    load_of_rank[placement.rank_of({slot})] +=
        load_of_expert[expert.value] / static_cast<double>(placement.slots_of(expert).size());
  }
  const double sum = std::accumulate(load_of_rank.begin(), load_of_rank.end(), 0.0);
  if (sum <= 0) return 0;
  return *std::max_element(load_of_rank.begin(), load_of_rank.end()) * static_cast<double>(placement.ep()) / sum - 1;
}

std::vector<int64_t> scaled_loads(std::span<const double> loads) {
  constexpr double kTotal = 1e9;
  const double sum = std::accumulate(loads.begin(), loads.end(), 0.0);
  std::vector<int64_t> scaled(loads.size());
  if (sum <= 0) return scaled;
  for (size_t i = 0; i < loads.size(); ++i) scaled[i] = std::llround(loads[i] / sum * kTotal);
  return scaled;
}

}  // namespace shoal
