// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/world_state.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>

namespace shoal {
namespace {

// With a core for everyone the peer is likely running: some microseconds of spinning save a system call.
constexpr int kSpins = 64;

// Activity in one atomic word: inside 1, operation 5, group 14, peer + 2 12, sequence 32 bits.
uint64_t pack(const Activity& a) {
  return uint64_t{a.inside} | static_cast<uint64_t>(a.operation) << 1 | (static_cast<uint64_t>(a.group) & 0x3fff) << 6 |
         (static_cast<uint64_t>(a.peer + 2) & 0xfff) << 20 | a.sequence << 32;
}

Activity unpack(uint64_t word) {
  return {.inside = (word & 1) != 0,
          .operation = static_cast<Operation>(word >> 1 & 0x1f),
          .group = static_cast<int>(word >> 6 & 0x3fff),
          .peer = static_cast<int>(word >> 20 & 0xfff) - 2,
          .sequence = word >> 32};
}

int usable_cores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

WorldState::WorldState(int size, const WorldOptions& options) : options_(options), ranks_(static_cast<size_t>(size)) {
  CHECK_GE(size, 1);
  const int threads = options.busy_threads > 0 ? options.busy_threads : size;
  if (threads <= usable_cores()) spin_limit_ = kSpins;
}

GroupState& WorldState::group(const std::string& name, const std::vector<int>& ranks) {
  const std::string label = group_label(name, ranks);
  const std::lock_guard lock(mutex_);
  for (const auto& group : groups_) {
    if (group->name() == label && group->ranks() == ranks) return *group;
  }
  groups_.push_back(std::make_unique<GroupState>(label, ranks, static_cast<int>(groups_.size())));
  return *groups_.back();
}

GroupState& WorldState::group_at(int index) const {
  const std::lock_guard lock(mutex_);
  return *groups_[static_cast<size_t>(index)];
}

void WorldState::fail(const std::string& cause) {
  {
    const std::lock_guard lock(mutex_);
    if (failed_.load()) return;
    cause_ = cause;
    failed_.store(true);
  }
  wake_all();
}

std::string WorldState::cause() const {
  const std::lock_guard lock(mutex_);
  return cause_;
}

void WorldState::wake_all() {
  const std::lock_guard lock(mutex_);
  for (const auto& group : groups_) group->wake_all();
}

void WorldState::set_activity(int rank, const Activity& activity) {
  ranks_[static_cast<size_t>(rank)].activity.store(pack(activity), std::memory_order_release);
}

Activity WorldState::activity(int rank) const {
  return unpack(ranks_[static_cast<size_t>(rank)].activity.load(std::memory_order_acquire));
}

void WorldState::leave(int rank) {
  ranks_[static_cast<size_t>(rank)].left.store(true);
  wake_all();
}

std::string WorldState::describe(int rank) const {
  const Activity seen = activity(rank);
  if (seen.operation == Operation::kNone) return fmt::format("rank {} (in no operation yet)", rank);
  const std::string operation =
      fmt::format("{} #{} of {}", operation_name(seen.operation), seen.sequence, group_at(seen.group).name());
  if (has_left(rank)) return fmt::format("rank {} (ended after {})", rank, operation);
  return fmt::format("rank {} ({} {})", rank, seen.inside ? "in" : "computing since", operation);
}

std::vector<int> WorldState::held_up_by(int rank, const Activity& activity) const {
  std::vector<int> result;
  if (!activity.inside) return result;
  GroupState& group = group_at(activity.group);
  if (activity.peer >= 0) return {group.ranks()[static_cast<size_t>(activity.peer)]};
  for (int i = 0; i < group.size(); ++i) {
    const int other = group.ranks()[static_cast<size_t>(i)];
    const Member& member = group.member(i);
    const Progress& awaited = activity.peer == Activity::kAllPosts ? member.posted : member.finished;
    if (other != rank && !awaited.reached(activity.sequence)) result.push_back(other);
  }
  return result;
}

std::vector<int> WorldState::culprits(int rank, const Activity& activity, std::vector<int>& direct) const {
  direct = held_up_by(rank, activity);
  std::vector<int> result;
  std::vector<int> queue = direct;
  std::vector<bool> seen(ranks_.size());
  seen[static_cast<size_t>(rank)] = true;
  for (const int i : queue) seen[static_cast<size_t>(i)] = true;
  for (size_t next = 0; next < queue.size(); ++next) {
    const int late = queue[next];
    const std::vector<int> others = held_up_by(late, this->activity(late));
    if (others.empty()) result.push_back(late);
    for (const int other : others) {
      if (seen[static_cast<size_t>(other)]) continue;
      seen[static_cast<size_t>(other)] = true;
      queue.push_back(other);
    }
  }
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace shoal
