// SPDX-License-Identifier: Apache-2.0
#include "engine/expert_mover.h"

#include <algorithm>

#include "base/error.h"

namespace shoal {
namespace {

bool same_shape(const ExpertWeights& a, const ExpertWeights& b) {
  return a.gate_up.spec() == b.gate_up.spec() && a.down.spec() == b.down.spec() &&
         a.gate_up_bias.defined() == b.gate_up_bias.defined();
}

bool ended(const ExpertCopy& copy) { return copy.state != ExpertCopy::State::kCopying; }

}  // namespace

ExpertMover::ExpertMover(const Mesh& mesh, ExpertShelf shelf, int64_t layers)
    : mesh_(mesh), shelf_(std::move(shelf)), layers_(layers) {
  CHECK_GE(layers, 1);
}

void ExpertMover::request(int64_t layer, Placement target) {
  const Placement& now = placement(layer);
  CHECK_EQ(target.slots(), now.slots());
  CHECK_EQ(target.experts(), now.experts());
  CHECK_EQ(target.ep(), now.ep());
  if (!wishes_.contains(layer)) order_.push_back(layer);
  wishes_.insert_or_assign(layer, std::move(target));
}

bool ExpertMover::moving(int64_t layer) const {
  return wishes_.contains(layer) || std::ranges::any_of(moves_, [&](const Move& move) { return move.layer == layer; });
}

std::shared_ptr<const ExpertStep> ExpertMover::next() {
  if (moves_.empty() && order_.empty()) return nullptr;
  const auto step = std::make_shared<ExpertStep>();
  std::erase_if(moves_, [&](Move& move) {
    if (!std::ranges::all_of(move.copies, [](const auto& copy) { return ended(*copy.second); })) return false;
    if (*move.abandoned) {
      give_back(move);
    } else {
      flip(move, *step);
    }
    return true;
  });
  // One that finds no room waits for a flip; a layer that moves already waits for its own.
  for (size_t i = 0; i < order_.size() && std::ssize(moves_) < layers_;) {
    const int64_t layer = order_[i];
    const bool busy = std::ranges::any_of(moves_, [&](const Move& move) { return move.layer == layer; });
    if (busy || !begin(layer, wishes_.at(layer))) {
      ++i;
      continue;
    }
    wishes_.erase(layer);
    order_.erase(order_.begin() + static_cast<int64_t>(i));
  }
  for (const Move& move : moves_) {
    for (const auto& [rank, copy] : move.copies) {
      if (!ended(*copy)) step->copies.push_back(copy);
    }
  }
  if (step->flips.empty() && step->copies.empty()) return nullptr;
  return step;
}

bool ExpertMover::begin(int64_t layer, const Placement& target) {
  if (target == placement(layer)) return true;
  Move move;
  move.layer = layer;
  move.target = std::make_shared<const Placement>(target);
  for (const auto& [rank, slots] : shelf_.layers.at(layer).slots) {
    if (plan_rank(move, rank)) continue;
    give_back(move);
    return false;
  }
  moves_.push_back(std::move(move));
  return true;
}

// What each slot of the rank will hold. An expert that is on the rank already changes its slot at most.
bool ExpertMover::plan_rank(Move& move, int rank) {
  const int64_t ep_rank = mesh_.at(rank).moe_ep;
  const std::vector<ExpertId> before = placement(move.layer).on_rank(ep_rank), after = move.target->on_rank(ep_rank);
  const std::vector<ExpertWeights>& slots = shelf_.layers.at(move.layer).slots.at(rank);
  std::multimap<ExpertId, ExpertWeights> left;  // on the rank, and in no slot yet
  for (size_t slot = 0; slot < before.size(); ++slot)
    if (before[slot] != after[slot] && before[slot] != kNoExpert) left.emplace(before[slot], slots[slot]);
  bool enough_room = true;
  for (size_t slot = 0; slot < after.size(); ++slot) {
    if (before[slot] == after[slot]) continue;
    Change change{rank, {.local_slot = static_cast<int32_t>(slot), .weights = {}}};
    const auto here = left.find(after[slot]);
    if (here != left.end()) {
      change.flip.weights = here->second;
      left.erase(here);
    } else if (after[slot] != kNoExpert) {
      const ExpertWeights& from = source(move, rank, after[slot]);
      if (!take_room(rank, from, change.flip.weights)) {
        enough_room = false;
        break;
      }
      const auto copy = std::make_shared<ExpertCopy>();
      copy->from = from;
      copy->to = change.flip.weights;
      copy->abandoned = move.abandoned;
      move.copies.emplace_back(rank, copy);
    }
    move.changes.push_back(std::move(change));
  }
  for (const auto& [expert, weights] : left) move.freed.emplace_back(rank, weights);
  return enough_room;
}

bool ExpertMover::take_room(int rank, const ExpertWeights& like, ExpertWeights& room) {
  std::vector<ExpertWeights>& all = shelf_.room[rank];
  const auto found = std::ranges::find_if(all, [&](const ExpertWeights& one) { return same_shape(one, like); });
  if (found == all.end()) return false;
  room = *found;
  all.erase(found);
  return true;
}

// A copy of the expert's slice that `rank` needs: of the holders, the one that fewest of this move's copies read.
const ExpertWeights& ExpertMover::source(const Move& move, int rank, ExpertId expert) const {
  const ExpertShelf::Layer& layer = shelf_.layers.at(move.layer);
  const auto ep_rank = static_cast<int>(mesh_.at(rank).moe_ep);
  const ExpertWeights* best = nullptr;
  int64_t fewest = 0;
  for (const SlotId slot : layer.placement->slots_of(expert)) {
    const int holder = rank - ep_rank + static_cast<int>(layer.placement->rank_of(slot));
    const ExpertWeights& held = layer.slots.at(holder)[slot.value % layer.placement->slots_per_rank()];
    const int64_t readers = std::ranges::count_if(
        move.copies, [&](const auto& copy) { return copy.second->from.gate_up.storage() == held.gate_up.storage(); });
    if (best && readers >= fewest) continue;
    best = &held;
    fewest = readers;
  }
  return *best;
}

void ExpertMover::flip(Move& move, ExpertStep& step) {
  ExpertShelf::Layer& layer = shelf_.layers.at(move.layer);
  LayerFlip flip{.layer = move.layer, .placement = move.target, .changes = {}};
  flip.changes.resize(mesh_.replica_size());
  for (Change& change : move.changes) {
    layer.slots.at(change.rank)[change.flip.local_slot] = change.flip.weights;
    flip.changes[change.rank].push_back(std::move(change.flip));
  }
  for (auto& [rank, weights] : move.freed) shelf_.room[rank].push_back(std::move(weights));
  layer.placement = move.target;
  ++counts_.layers;
  counts_.copies += std::ssize(move.copies);
  for (const auto& [rank, copy] : move.copies) counts_.bytes += copy->from.bytes();
  step.flips.push_back(std::move(flip));
}

// The layer stays as it is. Nothing touches the copies any more.
void ExpertMover::give_back(const Move& move) {
  for (const auto& [rank, copy] : move.copies) shelf_.room[rank].push_back(copy->to);
  if (*move.abandoned) ++counts_.given_up;
}

}  // namespace shoal
