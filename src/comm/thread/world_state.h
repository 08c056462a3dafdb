// SPDX-License-Identifier: Apache-2.0
// What all threads of a world share: its groups, its first failure, and what each rank was last seen doing.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "comm/thread/group_state.h"
#include "comm/thread/options.h"

namespace shoal {

// One operation of one rank, as seen by the others: for messages only.
struct Activity {
  static constexpr int kAllPosts = -1;     // peer: waits for every rank's post
  static constexpr int kAllFinished = -2;  // peer: waits until every rank has read its memory
  bool inside = false;                     // still in it
  Operation operation = Operation::kNone;
  int group = 0;         // index in the world's list
  int peer = kAllPosts;  // send, receive: index in the group
  uint64_t sequence = 0;
};

class WorldState {
 public:
  WorldState(int size, const WorldOptions& options);

  int size() const { return static_cast<int>(ranks_.size()); }
  const WorldOptions& options() const { return options_; }
  int spin_limit() const { return spin_limit_; }

  GroupState& group(const std::string& name, const std::vector<int>& ranks);

  // Ends the world: every wait, now and later, throws. The first cause stays.
  void fail(const std::string& cause);
  bool failed() const { return failed_.load(); }
  std::string cause() const;

  void set_activity(int rank, const Activity& activity);
  Activity activity(int rank) const;
  void leave(int rank);
  bool has_left(int rank) const { return ranks_[static_cast<size_t>(rank)].left.load(); }

  // "rank 1 (in all_gather #2 of ep[1,2])", for world rank 1.
  std::string describe(int rank) const;
  // Of those that hold up `rank` in `activity`, and those that hold these up in turn: who waits for nobody (world ranks).
  // All that `rank` waits for directly: `direct`.
  std::vector<int> culprits(int rank, const Activity& activity, std::vector<int>& direct) const;

 private:
  struct alignas(64) Rank {
    std::atomic<uint64_t> activity{0};
    std::atomic<bool> left{false};
  };
  std::vector<int> held_up_by(int rank, const Activity& activity) const;
  GroupState& group_at(int index) const;
  void wake_all();

  const WorldOptions options_;
  int spin_limit_ = 0;
  std::vector<Rank> ranks_;
  std::atomic<bool> failed_{false};
  mutable std::mutex mutex_;  // of the fields below
  std::string cause_;
  std::vector<std::unique_ptr<GroupState>> groups_;
};

}  // namespace shoal
