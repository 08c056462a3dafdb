// SPDX-License-Identifier: Apache-2.0
// ThreadWorld: ranks that are threads of this process. Each rank's thread asks for its own view of each group; the same name and ranks
// lead to the same group, whoever comes first. A Comm is used by its rank's thread only and may outlive the world object.
// After abort(), or any failure that an operation finds, every wait of every group throws CommError with the first cause. A failed
// world stays failed; make a new one.
// A tensor given to `send` is released by the sender's thread, except those nobody had received when its Comm ended.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/comm.h"
#include "comm/thread/options.h"

namespace shoal {

class WorldState;

class ThreadWorld {
 public:
  explicit ThreadWorld(int world_size, const WorldOptions& options = {});
  ~ThreadWorld();
  ThreadWorld(const ThreadWorld&) = delete;
  ThreadWorld& operator=(const ThreadWorld&) = delete;

  int size() const;
  // The group of world ranks `ranks`, in this order, as seen by world rank `rank`, which is one of them. Called by any thread.
  std::unique_ptr<Comm> group(std::vector<int> ranks, int rank, const std::string& name);
  // Ends every wait, now and later. The first reason stays.
  void abort(const std::string& reason);
  bool failed() const;
  std::string cause() const;  // of the failure; empty if there is none

  // Stands in the thread of a rank as long as it takes part. When it ends, whoever still waits for this rank fails at once instead of
  // after the time-out; when an exception ends it, the world is aborted (call abort first to give the reason).
  class RankScope {
   public:
    RankScope(ThreadWorld& world, int rank);
    ~RankScope();
    RankScope(const RankScope&) = delete;
    RankScope& operator=(const RankScope&) = delete;

   private:
    std::shared_ptr<WorldState> state_;
    int rank_;
    int exceptions_;
  };

 private:
  std::shared_ptr<WorldState> state_;
};

}  // namespace shoal
