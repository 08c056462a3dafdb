// SPDX-License-Identifier: Apache-2.0
#include "parallel/replan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "parallel/replica_split.h"
#include "parallel/slot_board.h"

namespace shoal {
namespace {

// Of the heaviest ranks, and of the lightest; more where those allow nothing, such as ranks that are heavy through one expert alone.
constexpr size_t kRanksTried[] = {3, 12};
constexpr size_t kExpertsTried = 3;  // of a heavy rank, for a further copy
constexpr double kLeastGain = 1e-9;  // of the excess; less is rounding
// Of a split, to compare placements by: what the last passes still shift hardly differs between them.
constexpr int kPassesToCompare = 4;
// Vectors after which a step that has gained less than half as much as the best one is given up.
constexpr size_t kVectorsToJudge = 2;

// What a board is worth: how far ranks are above the target, and the imbalance, of each load vector.
struct Score {
  std::vector<double> excess;  // by vector: sum over ranks of ((load - limit) / mean)^2 where positive
  double imbalance = 0;        // mean over vectors
};

// Changes slots of a board; the first `changes` of `slots` are used.
struct Step {
  std::array<int64_t, 2> slots{};
  std::array<int32_t, 2> experts{};
  int64_t changes = 0;
};

class Search {
 public:
  Search(const Placement& current, const LayerLoads& loads, const ReplanOptions& options)
      : board_(current),
        split_(board_),
        options_(options),
        tokens_of_slot_(board_.slots()),
        tokens_of_rank_(board_.ep()) {
    vectors_ = loads.batches;
    if (vectors_.empty()) vectors_.push_back(scaled_loads(loads.mean));
    mean_ = scaled_loads(loads.mean);
  }

  Replan run(const Placement& current) {
    std::vector<Step> taken;
    Score score = score_of_board();
    const double before = score.imbalance;
    double best_value = 0;
    size_t kept = 0;
    double after = before;
    int64_t copies = 0;
    while (score.imbalance > options_.target) {
      const std::optional<Step> step = best_step(score, options_.max_copies - copies);
      if (!step) break;
      taken.push_back(undo_of(*step));
      apply(*step);
      copies += step->changes;
      score = score_of_board();
      const double value = before - score.imbalance - options_.price_per_copy * static_cast<double>(copies);
      if (value <= best_value) continue;
      best_value = value;
      kept = taken.size();
      after = score.imbalance;
    }
    while (taken.size() > kept) {
      apply(taken.back());
      taken.pop_back();
    }
    Placement placement = board_.placement();
    const int64_t moved = copies_between_ranks(current, placement);
    return {.placement = std::move(placement), .imbalance_before = before, .imbalance_after = after, .copies = moved};
  }

 private:
  void apply(const Step& step) {
    for (int64_t i = 0; i < step.changes; ++i) board_.set(step.slots[i], step.experts[i]);
  }
  Step undo_of(const Step& step) const {
    Step undo = step;
    for (int64_t i = 0; i < step.changes; ++i) undo.experts[i] = board_.expert(step.slots[i]);
    return undo;
  }

  Score score_of_board() {
    split_.reset(board_);
    Score score;
    for (const std::vector<int64_t>& tokens : vectors_) {
      split_.split(tokens);
      score.imbalance += imbalance(split_.tokens_of_rank());
      split_.split(tokens, kPassesToCompare);
      score.excess.push_back(excess(split_.tokens_of_rank()));
    }
    score.imbalance /= static_cast<double>(vectors_.size());
    return score;
  }

  // By how much the board's excess is less than it was, mean over vectors. Where the first of them show less than half of `most`, theirs.
  double gain_of_board(const Score& before, double most) {
    split_.reset(board_);
    double gain = 0;
    for (size_t i = 0; i < vectors_.size(); ++i) {
      if (i == kVectorsToJudge && gain < 0.5 * most * static_cast<double>(i)) return gain / static_cast<double>(i);
      split_.split(vectors_[i], kPassesToCompare);
      gain += before.excess[i] - excess(split_.tokens_of_rank());
    }
    return gain / static_cast<double>(vectors_.size());
  }

  double excess(std::span<const int64_t> tokens_of_rank) const {
    const int64_t sum = std::accumulate(tokens_of_rank.begin(), tokens_of_rank.end(), int64_t{0});
    if (sum == 0) return 0;
    const double mean = static_cast<double>(sum) / static_cast<double>(tokens_of_rank.size());
    double result = 0;
    for (const int64_t tokens : tokens_of_rank) {
      const double above = static_cast<double>(tokens) / mean - 1 - options_.target;
      if (above > 0) result += above * above;
    }
    return result;
  }

  std::optional<Step> best_step(const Score& now, int64_t copies_left) {
    for (const size_t ranks : kRanksTried) {
      if (const std::optional<Step> best = best_step(now, copies_left, ranks)) return best;
    }
    return {};
  }

  std::optional<Step> best_step(const Score& now, int64_t copies_left, size_t ranks_tried) {
    std::optional<Step> best;
    double most = kLeastGain;
    for (const Step& step : candidates(ranks_tried)) {
      if (step.changes > copies_left) continue;
      const Step undo = undo_of(step);
      apply(step);
      const auto changes = static_cast<double>(step.changes);
      const double gain = gain_of_board(now, most * changes) / changes;
      apply(undo);
      if (gain <= most) continue;
      most = gain;
      best = step;
    }
    return best;
  }

  // Exchanges between, and further copies on, the heaviest and lightest ranks of the mean loads.
  std::vector<Step> candidates(size_t ranks_tried) {
    split_.reset(board_);
    const std::span<const int64_t> tokens = split_.split(mean_);
    std::copy(tokens.begin(), tokens.end(), tokens_of_slot_.begin());
    std::copy(split_.tokens_of_rank().begin(), split_.tokens_of_rank().end(), tokens_of_rank_.begin());
    std::vector<int64_t> ranks(board_.ep());
    std::iota(ranks.begin(), ranks.end(), 0);
    std::stable_sort(ranks.begin(), ranks.end(),
                     [&](int64_t a, int64_t b) { return tokens_of_rank_[a] > tokens_of_rank_[b]; });
    const size_t tried = std::min(ranks_tried, ranks.size() / 2);
    std::vector<Step> steps;
    for (size_t i = 0; i < tried; ++i) {
      for (size_t j = 0; j < tried; ++j) {
        const int64_t heavy = ranks[i];
        const int64_t light = ranks[ranks.size() - 1 - j];
        add_exchanges(heavy, light, steps);
        add_copies(heavy, light, steps);
      }
    }
    return steps;
  }

  std::pair<int64_t, int64_t> slots_of(int64_t rank) const {
    return {rank * board_.slots_per_rank(), (rank + 1) * board_.slots_per_rank()};
  }

  // The pairs of experts that come nearest to levelling both ranks, to bringing the heavy one to the mean, and the light one.
  void add_exchanges(int64_t heavy, int64_t light, std::vector<Step>& steps) const {
    const int64_t mean = std::accumulate(tokens_of_rank_.begin(), tokens_of_rank_.end(), int64_t{0}) / board_.ep();
    const std::array<int64_t, 3> wanted{(tokens_of_rank_[heavy] - tokens_of_rank_[light]) / 2,
                                        tokens_of_rank_[heavy] - mean, mean - tokens_of_rank_[light]};
    std::array<Step, 3> nearest;
    std::array<int64_t, 3> distance;
    distance.fill(std::numeric_limits<int64_t>::max());
    const auto consider = [&](int64_t a, int64_t b) {
      const int64_t less = tokens_of_slot_[a] - tokens_of_slot_[b];
      if (less <= 0 || !exchangeable(a, b)) return;
      for (size_t i = 0; i < wanted.size(); ++i) {
        if (std::abs(less - wanted[i]) >= distance[i]) continue;
        distance[i] = std::abs(less - wanted[i]);
        nearest[i] = {.slots = {a, b}, .experts = {board_.expert(b), board_.expert(a)}, .changes = 2};
      }
    };
    const auto [heavy_begin, heavy_end] = slots_of(heavy);
    const auto [light_begin, light_end] = slots_of(light);
    for (int64_t a = heavy_begin; a < heavy_end; ++a) {
      for (int64_t b = light_begin; b < light_end; ++b) consider(a, b);
    }
    for (const Step& step : nearest) {
      if (step.changes > 0) steps.push_back(step);
    }
  }

  bool exchangeable(int64_t a, int64_t b) const {
    const int32_t of_a = board_.expert(a);
    const int32_t of_b = board_.expert(b);
    return of_a >= 0 && of_b >= 0 && !board_.holds(board_.rank_of(a), of_b) && !board_.holds(board_.rank_of(b), of_a);
  }

  // The heavy rank's busiest experts, each copied over what the light rank needs least.
  void add_copies(int64_t heavy, int64_t light, std::vector<Step>& steps) const {
    const int64_t to = least_needed(light);
    if (to < 0) return;
    std::vector<int64_t> busiest;
    const auto [begin, end] = slots_of(heavy);
    for (int64_t slot = begin; slot < end; ++slot) {
      if (board_.expert(slot) >= 0 && !board_.holds(light, board_.expert(slot))) busiest.push_back(slot);
    }
    std::stable_sort(busiest.begin(), busiest.end(),
                     [&](int64_t a, int64_t b) { return tokens_of_slot_[a] > tokens_of_slot_[b]; });
    for (size_t i = 0; i < std::min(kExpertsTried, busiest.size()); ++i) {
      steps.push_back({.slots = {to, 0}, .experts = {board_.expert(busiest[i]), 0}, .changes = 1});
    }
  }

  // An empty slot, else the expert with another copy that has fewest tokens here; -1: all are the only copy.
  int64_t least_needed(int64_t rank) const {
    int64_t best = -1;
    const auto [begin, end] = slots_of(rank);
    for (int64_t slot = begin; slot < end; ++slot) {
      if (board_.expert(slot) < 0) return slot;
      if (board_.copies(board_.expert(slot)) < 2) continue;
      if (best < 0 || tokens_of_slot_[slot] < tokens_of_slot_[best]) best = slot;
    }
    return best;
  }

  SlotBoard board_;
  ReplicaSplit split_;
  const ReplanOptions& options_;
  std::vector<std::vector<int64_t>> vectors_;  // that boards are judged by
  std::vector<int64_t> mean_;
  std::vector<int64_t> tokens_of_slot_;  // of the mean, before the step
  std::vector<int64_t> tokens_of_rank_;
};

void check_same_grid(const Placement& a, const Placement& b) {
  CHECK_EQ(a.slots(), b.slots());
  CHECK_EQ(a.ep(), b.ep());
  CHECK_EQ(a.experts(), b.experts());
}

}  // namespace

Replan replan_placement(const Placement& current, const LayerLoads& loads, const ReplanOptions& options) {
  CHECK_EQ(static_cast<int64_t>(loads.mean.size()), current.experts());
  return Search(current, loads, options).run(current);
}

std::vector<SlotChange> slot_changes(const Placement& current, const Placement& next) {
  check_same_grid(current, next);
  std::vector<SlotChange> changes;
  std::vector<int64_t> sent(current.ep());  // copies by each rank, to share the sending out
  for (int32_t slot = 0; slot < next.slots(); ++slot) {
    const ExpertId expert = next.expert({slot});
    if (expert == kNoExpert || expert == current.expert({slot})) continue;
    const std::vector<SlotId>& sources = current.slots_of(expert);
    const auto cost = [&](SlotId from) {
      return current.rank_of(from) == next.rank_of({slot}) ? -1 : sent[current.rank_of(from)];
    };
    const SlotId from =
        *std::min_element(sources.begin(), sources.end(), [&](SlotId a, SlotId b) { return cost(a) < cost(b); });
    if (current.rank_of(from) != next.rank_of({slot})) ++sent[current.rank_of(from)];
    changes.push_back({.to = {slot}, .from = from, .expert = expert});
  }
  return changes;
}

int64_t copies_between_ranks(const Placement& current, const Placement& next) {
  int64_t copies = 0;
  for (const SlotChange& change : slot_changes(current, next)) {
    copies += current.rank_of(change.from) != next.rank_of(change.to) ? 1 : 0;
  }
  return copies;
}

Placement keep_slots(const Placement& current, const Placement& planned) {
  check_same_grid(current, planned);
  std::vector<ExpertId> result(planned.slots(), kNoExpert);
  for (int64_t rank = 0; rank < planned.ep(); ++rank) {
    const int64_t first = rank * planned.slots_per_rank();
    std::vector<ExpertId> left = planned.on_rank(rank);
    std::erase(left, kNoExpert);
    for (int64_t slot = first; slot < first + planned.slots_per_rank(); ++slot) {
      const auto same = std::find(left.begin(), left.end(), current.expert({static_cast<int32_t>(slot)}));
      if (same == left.end()) continue;
      result[slot] = *same;
      left.erase(same);
    }
    for (int64_t slot = first; !left.empty(); ++slot) {
      if (result[slot] != kNoExpert) continue;
      result[slot] = left.back();
      left.pop_back();
    }
  }
  return Placement(std::move(result), planned.experts(), planned.ep());
}

}  // namespace shoal
