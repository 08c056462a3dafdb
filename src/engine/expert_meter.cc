// SPDX-License-Identifier: Apache-2.0
#include "engine/expert_meter.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace shoal {
namespace {

// sum = sum * keep + terms
void decay_into(std::vector<double>& sum, const std::vector<int64_t>& terms, double keep) {
  sum.resize(terms.size());
  for (size_t i = 0; i < terms.size(); ++i) sum[i] = sum[i] * keep + static_cast<double>(terms[i]);
}

}  // namespace

ExpertMeter::ExpertMeter(const Mesh& mesh) : mesh_(mesh), last_(mesh.replica_size()) {}

int64_t ExpertMeter::picks(int64_t layer) const {
  const auto found = picks_.find(layer);
  return found == picks_.end() ? 0 : found->second;
}

const std::vector<std::vector<int64_t>>& ExpertMeter::batches(int64_t layer) const {
  static const std::vector<std::vector<int64_t>> none;
  const auto found = batches_.find(layer);
  return found == batches_.end() ? none : found->second;
}

std::optional<StepRecord> ExpertMeter::add(const RankReport& report) {
  Pending& pending = pending_[report.step];
  if (pending.reports == 0 && record_begin_ <= report.step && report.step < record_end_) {
    pending.counts = Counts{.step = report.step, .by_home = {}};
    pending.counts->by_home.resize(mesh_.sizes().moe_expert);
  }
  add_picks(pending, report);
  pending.record.wait_seconds = std::max(pending.record.wait_seconds, report.flip_seconds);
  if (++pending.reports < mesh_.replica_size()) return std::nullopt;
  pending.record.step = report.step;
  finish(pending);
  const StepRecord record = pending.record;
  pending_.erase(report.step);
  return record;
}

void ExpertMeter::add_picks(Pending& pending, const RankReport& report) {
  const Coordinates at = mesh_.at(report.rank);
  std::map<int64_t, Totals>& last = last_[report.rank];
  for (const auto& [layer, totals] : report.totals) {
    Totals& before = last[layer];
    before.by_expert.resize(totals.by_expert.size());
    std::vector<int64_t>& sum = pending.by_expert[layer];
    sum.resize(totals.by_expert.size());
    std::vector<int64_t>* home = nullptr;
    if (pending.counts) {
      home = &pending.counts->by_home[at.moe_ep][layer];
      home->resize(totals.by_expert.size());
      if (totals.selections) pending.counts->selections[layer][report.rank] = *totals.selections;
    }
    for (size_t expert = 0; expert < totals.by_expert.size(); ++expert) {
      const int64_t picks = totals.by_expert[expert] - before.by_expert[expert];
      sum[expert] += picks;
      if (home) (*home)[expert] += picks;
    }
    std::vector<int64_t>& by_rank = pending.by_rank[layer];
    by_rank.resize(mesh_.sizes().moe_expert);
    if (at.moe_tp == 0) by_rank[at.moe_ep] += totals.computed - before.computed;  // the others have slices of the same
    before = {totals.by_expert, totals.computed};
  }
}

void ExpertMeter::finish(Pending& pending) {
  StepRecord& record = pending.record;
  for (const auto& [layer, by_rank] : pending.by_rank) {
    const std::vector<int64_t>& by_expert = pending.by_expert.at(layer);
    const int64_t picks = std::accumulate(by_expert.begin(), by_expert.end(), int64_t{0});
    record.picks += picks;
    picks_[layer] += picks;
    std::vector<int64_t>& all_by_rank = picks_by_rank_[layer];
    all_by_rank.resize(by_rank.size());
    for (size_t rank = 0; rank < by_rank.size(); ++rank) all_by_rank[rank] += by_rank[rank];
    record.heaviest_picks += static_cast<double>(*std::max_element(by_rank.begin(), by_rank.end()));
    record.mean_picks += static_cast<double>(std::accumulate(by_rank.begin(), by_rank.end(), int64_t{0})) /
                         static_cast<double>(by_rank.size());
    const double keep = std::exp(-static_cast<double>(picks) / (kWindowPicks * static_cast<double>(by_expert.size())));
    decay_into(recent_[layer], by_expert, keep);
    decay_into(recent_by_rank_[layer], by_rank, keep);
    add_to_batches(layer, by_expert);
  }
  if (pending.counts) recorded_.push_back(std::move(*pending.counts));
}

void ExpertMeter::add_to_batches(int64_t layer, const std::vector<int64_t>& by_expert) {
  std::vector<int64_t>& open = open_batch_[layer];
  open.resize(by_expert.size());
  int64_t picks = 0;
  for (size_t i = 0; i < open.size(); ++i) picks += open[i] += by_expert[i];
  if (picks < kPicksOfBatch * std::ssize(open)) return;
  std::vector<std::vector<int64_t>>& batches = batches_[layer];
  if (batches.size() == kBatches) batches.erase(batches.begin());
  batches.push_back(std::exchange(open, {}));
}

void ExpertMeter::record(int64_t begin, int64_t end) {
  record_begin_ = begin;
  record_end_ = end;
}

std::vector<ExpertMeter::Counts> ExpertMeter::take_recorded() { return std::exchange(recorded_, {}); }

}  // namespace shoal
