// SPDX-License-Identifier: Apache-2.0
#include "parallel/replica_split.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace shoal {

ReplicaSplit::ReplicaSplit(const Placement& placement) : ReplicaSplit(SlotBoard(placement)) {}

ReplicaSplit::ReplicaSplit(const SlotBoard& board)
    : experts_(board.experts()),
      next_place_(board.experts()),
      places_(board.slots()),
      tokens_of_slot_(board.slots()),
      tokens_of_rank_(board.ep()) {
  shared_.reserve(board.experts());
  sole_.reserve(board.experts());
  reset(board);
}

void ReplicaSplit::reset(const SlotBoard& board) {
  CHECK_EQ(board.slots(), static_cast<int64_t>(tokens_of_slot_.size()));
  CHECK_EQ(board.experts(), experts_);
  std::fill(tokens_of_slot_.begin(), tokens_of_slot_.end(), 0);
  shared_.clear();
  sole_.clear();
  int32_t end = 0;
  for (int32_t expert = 0; expert < experts_; ++expert) {
    next_place_[expert] = end;
    end += board.copies(expert);
  }
  for (int32_t slot = 0; slot < board.slots(); ++slot) {
    const int32_t expert = board.expert(slot);
    if (expert >= 0) places_[next_place_[expert]++] = {.slot = slot, .rank = static_cast<int32_t>(board.rank_of(slot))};
  }
  for (int32_t expert = 0; expert < experts_; ++expert)
    add_expert(expert, next_place_[expert] - board.copies(expert), next_place_[expert]);
}

// Copies on one rank follow each other: only the first of them is a place.
void ReplicaSplit::add_expert(int32_t expert, int32_t begin, int32_t end) {
  int32_t kept = begin;
  for (int32_t i = begin; i < end; ++i) {
    if (kept == begin || places_[kept - 1].rank != places_[i].rank) places_[kept++] = places_[i];
  }
  const Spread places{.expert = expert, .first = begin, .count = kept - begin};
  CHECK_GT(places.count, 0);
  (places.count > 1 ? shared_ : sole_).push_back(places);
}

std::span<const int64_t> ReplicaSplit::split(std::span<const int64_t> tokens_of_expert, int passes) {
  CHECK_EQ(static_cast<int64_t>(tokens_of_expert.size()), experts());
  std::fill(tokens_of_rank_.begin(), tokens_of_rank_.end(), 0);
  for (const Spread& sole : sole_) {
    const Place& home = places_[sole.first];
    tokens_of_slot_[home.slot] = tokens_of_expert[sole.expert];
    tokens_of_rank_[home.rank] += tokens_of_expert[sole.expert];
  }
  for (const Spread& shared : shared_) start_evenly(shared, tokens_of_expert[shared.expert]);
  // Forwards and backwards in turn, so that load crosses a chain of experts in either direction.
  // A pass that shifts nothing is the last: so would all others be.
  bool shifts = true;
  for (int pass = 0; pass < passes && shifts; ++pass) {
    shifts = false;
    for (size_t i = 0; i < shared_.size(); ++i) {
      const Spread& shared = shared_[pass % 2 == 0 ? i : shared_.size() - 1 - i];
      const int64_t tokens = tokens_of_expert[shared.expert];
      shifts |= shared.count == 2 ? pour_in_two(shared, tokens) : pour(shared, tokens);
    }
  }
  return tokens_of_slot_;
}

// What does not divide goes to the lowest slot, not to the first place: their order is left over from the batch before.
void ReplicaSplit::start_evenly(const Spread& shared, int64_t tokens) {
  const std::span<const Place> places = std::span(places_).subspan(shared.first, shared.count);
  const Place& lowest =
      *std::min_element(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.slot < b.slot; });
  for (const Place& place : places) {
    const int64_t share = tokens / shared.count + (&place == &lowest ? tokens % shared.count : 0);
    tokens_of_slot_[place.slot] = share;
    tokens_of_rank_[place.rank] += share;
  }
}

// Level = the height at which the tokens end when poured over the ranks' other load; the lightest ranks stand below it.
bool ReplicaSplit::pour(const Spread& shared, int64_t tokens) {
  const std::span<Place> places = std::span(places_).subspan(shared.first, shared.count);
  for (Place& place : places) place.other_tokens = tokens_of_rank_[place.rank] - tokens_of_slot_[place.slot];
  // By load, equal ones by slot. Insertion: few places, and nearly in order from the pass before.
  for (size_t i = 1; i < places.size(); ++i) {
    const Place moving = places[i];
    size_t at = i;
    for (; at > 0; --at) {
      const Place& before = places[at - 1];
      if (before.other_tokens < moving.other_tokens) break;
      if (before.other_tokens == moving.other_tokens && before.slot < moving.slot) break;
      places[at] = before;
    }
    places[at] = moving;
  }
  size_t wet = 1;
  int64_t volume = tokens + places[0].other_tokens;
  while (wet < places.size() && places[wet].other_tokens * static_cast<int64_t>(wet) < volume) {
    volume += places[wet++].other_tokens;
  }
  const int64_t level = volume / static_cast<int64_t>(wet);
  const int64_t above = volume % static_cast<int64_t>(wet);
  bool shifts = false;
  for (size_t i = 0; i < places.size(); ++i) {
    const Place& place = places[i];
    const int64_t height = level + (static_cast<int64_t>(i) < above ? 1 : 0);
    const int64_t share = i < wet ? height - place.other_tokens : 0;
    shifts |= std::exchange(tokens_of_slot_[place.slot], share) != share;
    tokens_of_rank_[place.rank] = place.other_tokens + share;
  }
  return shifts;
}

// pour() for two places, the most frequent case: no order to keep, no division.
bool ReplicaSplit::pour_in_two(const Spread& shared, int64_t tokens) {
  const Place& first = places_[shared.first];
  const Place& second = places_[shared.first + 1];
  const int64_t of_first = tokens_of_rank_[first.rank] - tokens_of_slot_[first.slot];
  const int64_t of_second = tokens_of_rank_[second.rank] - tokens_of_slot_[second.slot];
  const bool first_is_lower = of_first != of_second ? of_first < of_second : first.slot < second.slot;
  // The lower rank gets what lifts it to the other, and half of the rest, the odd token too.
  const int64_t step = first_is_lower ? of_second - of_first : of_first - of_second;
  const int64_t lower_share = tokens <= step ? tokens : step + (tokens - step + 1) / 2;
  const int64_t share = first_is_lower ? lower_share : tokens - lower_share;
  if (share == tokens_of_slot_[first.slot]) return false;
  tokens_of_slot_[first.slot] = share;
  tokens_of_slot_[second.slot] = tokens - share;
  tokens_of_rank_[first.rank] = of_first + share;
  tokens_of_rank_[second.rank] = of_second + tokens - share;
  return true;
}

std::vector<int64_t> even_split(const Placement& placement, std::span<const int64_t> tokens_of_expert) {
  CHECK_EQ(static_cast<int64_t>(tokens_of_expert.size()), placement.experts());
  std::vector<int64_t> tokens_of_slot(placement.slots());
  for (int32_t expert = 0; expert < placement.experts(); ++expert) {
    const std::vector<SlotId>& slots = placement.slots_of({expert});
    const int64_t copies = static_cast<int64_t>(slots.size());
    for (int64_t i = 0; i < copies; ++i) {
      const int64_t more = i < tokens_of_expert[expert] % copies ? 1 : 0;
      tokens_of_slot[slots[i].value] = tokens_of_expert[expert] / copies + more;
    }
  }
  return tokens_of_slot;
}

}  // namespace shoal
