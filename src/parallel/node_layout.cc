// SPDX-License-Identifier: Apache-2.0
#include "parallel/node_layout.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "base/error.h"

namespace shoal {
namespace {

// Ranks as positions that a permutation fills; the gain of a permutation is counted by expert and node.
class NodeLayout {
 public:
  NodeLayout(const Placement& placement, std::span<const double> load_of_expert, int64_t nodes)
      : placement_(placement),
        load_of_expert_(load_of_expert),
        nodes_(nodes),
        ranks_per_node_(placement.ep() / nodes),
        rank_at_(placement.ep()),
        copies_on_node_(placement.experts() * nodes) {
    CHECK_EQ(placement.ep() % nodes, 0);
    std::iota(rank_at_.begin(), rank_at_.end(), 0);
    for (int64_t position = 0; position < placement.ep(); ++position) count(position, 1);
  }

  double near() const {
    double sum = 0;
    for (int32_t expert = 0; expert < placement_.experts(); ++expert) sum += near(expert);
    return sum;
  }

  // Exchanges pairs of ranks as long as one brings tokens nearer.
  Placement improve() {
    for (bool improved = true; improved;) {
      improved = false;
      for (int64_t a = 0; a < placement_.ep(); ++a) {
        for (int64_t b = (node_of(a) + 1) * ranks_per_node_; b < placement_.ep(); ++b) improved |= try_exchange(a, b);
      }
    }
    std::vector<ExpertId> expert_of_slot;
    for (const int64_t rank : rank_at_) {
      const std::vector<ExpertId> own = placement_.on_rank(rank);
      expert_of_slot.insert(expert_of_slot.end(), own.begin(), own.end());
    }
    return Placement(std::move(expert_of_slot), placement_.experts(), placement_.ep());
  }

 private:
  int64_t node_of(int64_t position) const { return position / ranks_per_node_; }

  // Load of the expert that its nodes' copies can take from their own node.
  double near(int32_t expert) const {
    const double copies = static_cast<double>(placement_.slots_of({expert}).size());
    double part = 0;
    for (int64_t node = 0; node < nodes_; ++node) {
      part += std::min(1.0 / static_cast<double>(nodes_), copies_on_node_[expert * nodes_ + node] / copies);
    }
    return part * load_of_expert_[expert];
  }

  double near_at(int64_t a, int64_t b) const {
    double sum = 0;
    for (const int64_t position : {a, b}) {
      for (int64_t i = 0; i < placement_.slots_per_rank(); ++i) {
        const ExpertId expert = expert_at(position, i);
        if (expert != kNoExpert && placement_.slots_of(expert).size() > 1) sum += near(expert.value);
      }
    }
    return sum;
  }

  bool try_exchange(int64_t a, int64_t b) {
    const double before = near_at(a, b);
    exchange(a, b);
    // An expert on both ranks is counted twice, before and after alike.
    if (near_at(a, b) > before * (1 + 1e-9)) return true;
    exchange(a, b);
    return false;
  }

  void exchange(int64_t a, int64_t b) {
    for (const int64_t position : {a, b}) count(position, -1);
    std::swap(rank_at_[a], rank_at_[b]);
    for (const int64_t position : {a, b}) count(position, 1);
  }

  ExpertId expert_at(int64_t position, int64_t i) const {
    return placement_.expert({static_cast<int32_t>(rank_at_[position] * placement_.slots_per_rank() + i)});
  }

  void count(int64_t position, int32_t change) {
    for (int64_t i = 0; i < placement_.slots_per_rank(); ++i) {
      const ExpertId expert = expert_at(position, i);
      if (expert != kNoExpert) copies_on_node_[expert.value * nodes_ + node_of(position)] += change;
    }
  }

  const Placement& placement_;
  std::span<const double> load_of_expert_;
  int64_t nodes_;
  int64_t ranks_per_node_;
  std::vector<int64_t> rank_at_;         // [ep] the rank of `placement_` that stands at each position
  std::vector<int32_t> copies_on_node_;  // [experts, nodes]
};

}  // namespace

Placement laid_over_nodes(const Placement& placement, std::span<const double> load_of_expert, int64_t nodes) {
  return NodeLayout(placement, load_of_expert, nodes).improve();
}

double tokens_near(const Placement& placement, std::span<const double> load_of_expert, int64_t nodes) {
  const double sum = std::accumulate(load_of_expert.begin(), load_of_expert.end(), 0.0);
  return sum > 0 ? NodeLayout(placement, load_of_expert, nodes).near() / sum : 0;
}

}  // namespace shoal
