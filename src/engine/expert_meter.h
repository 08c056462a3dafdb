// SPDX-License-Identifier: Apache-2.0
// ExpertMeter: what the ranks of one replica report after each step, put together: loads of each layer by expert with decay (for planning),
// by EP rank as they were computed (under whatever placement was in use then), the last batches, how long flips took, and while asked for the
// counts of every step (for statistics files). Loads belong to experts, never to slots, so they stay true when experts move.
// Not thread-safe. Not here: who asks (expert_balancer.h), files (expert_statistics.h).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "model/expert_moves.h"
#include "parallel/mesh.h"

namespace shoal {

// Of one rank, after a step.
struct RankReport {
  int rank = 0;  // of the replica
  int64_t step = 0;
  const std::map<int64_t, LayerPicks>& totals;  // since the start
  double flip_seconds = 0;                      // until its layers used their new placement
};

// Of one step, when every rank has reported it.
struct StepRecord {
  int64_t step = 0;
  int64_t picks = 0;          // of all layers
  double heaviest_picks = 0;  // sum over layers of what the busiest EP rank computed
  double mean_picks = 0;      // sum over layers of the mean over EP ranks
  int64_t flips = 0;          // layers that changed their placement with it
  double wait_seconds = 0;    // that it waited for moves: to learn of them, and for flips where they took longest
  int64_t copied_bytes = 0;   // while it ran
  double copy_seconds = 0;    // of a core, that these took
  double seconds = 0;         // since the step before was complete

  double imbalance() const { return mean_picks > 0 ? heaviest_picks / mean_picks - 1 : 0; }
};

class ExpertMeter {
 public:
  explicit ExpertMeter(const Mesh& mesh);

  // The step's record with its last report.
  std::optional<StepRecord> add(const RankReport& report);

  // Recent picks by expert: a pick counts e times less after as many others of its layer as kWindowPicks for each expert.
  const std::map<int64_t, std::vector<double>>& recent() const { return recent_; }
  // By expert, of the last kBatches batches, oldest first: steps, together where they have few picks.
  const std::vector<std::vector<int64_t>>& batches(int64_t layer) const;
  // Picks of a layer since the start.
  int64_t picks(int64_t layer) const;
  // The same since the start, by EP rank that computed them.
  const std::map<int64_t, std::vector<int64_t>>& picks_by_rank() const { return picks_by_rank_; }
  // By EP rank, of the last steps, with the same decay.
  const std::map<int64_t, std::vector<double>>& recent_by_rank() const { return recent_by_rank_; }

  // Of one step: counts by layer and expert, by the EP rank that is home of the tokens; where ranks keep them, the selections of each rank.
  struct Counts {
    int64_t step = 0;
    std::vector<std::map<int64_t, std::vector<int64_t>>> by_home;  // [ep]
    // Layer -> rank of the replica -> [tokens, top_k].
    std::map<int64_t, std::map<int, std::vector<int32_t>>> selections = {};
  };
  // Of steps begin <= i < end from now on; what is recorded already stays.
  void record(int64_t begin, int64_t end);
  std::vector<Counts> take_recorded();  // whole steps, ascending

  static constexpr double kWindowPicks = 128;
  static constexpr size_t kBatches = 8;
  static constexpr int64_t kPicksOfBatch = 16;  // for each expert of the layer, at least

 private:
  struct Pending {
    int reports = 0;
    StepRecord record;
    std::map<int64_t, std::vector<int64_t>> by_expert;
    std::map<int64_t, std::vector<int64_t>> by_rank;
    std::optional<Counts> counts;
  };
  void add_picks(Pending& pending, const RankReport& report);
  void finish(Pending& pending);
  void add_to_batches(int64_t layer, const std::vector<int64_t>& by_expert);

  Mesh mesh_;
  struct Totals {
    std::vector<int64_t> by_expert;
    int64_t computed = 0;
  };
  std::vector<std::map<int64_t, Totals>> last_;  // by rank: at the report before
  std::map<int64_t, Pending> pending_;
  std::map<int64_t, std::vector<double>> recent_, recent_by_rank_;
  std::map<int64_t, int64_t> picks_;
  std::map<int64_t, std::vector<int64_t>> picks_by_rank_;
  std::map<int64_t, std::vector<std::vector<int64_t>>> batches_;
  std::map<int64_t, std::vector<int64_t>> open_batch_;
  int64_t record_begin_ = 0, record_end_ = 0;
  std::vector<Counts> recorded_;
};

}  // namespace shoal
