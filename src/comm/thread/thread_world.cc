// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/thread_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>

#include "comm/thread/thread_comm.h"

namespace shoal {

ThreadWorld::ThreadWorld(int world_size, const WorldOptions& options)
    : state_(std::make_shared<WorldState>(world_size, options)) {}

ThreadWorld::~ThreadWorld() = default;

int ThreadWorld::size() const { return state_->size(); }

std::unique_ptr<Comm> ThreadWorld::group(std::vector<int> ranks, int rank, const std::string& name) {
  for (const int member : ranks) CHECK(0 <= member && member < size() && std::ranges::count(ranks, member) == 1);
  const auto place = std::ranges::find(ranks, rank);
  CHECK(place != ranks.end());
  return std::make_unique<ThreadComm>(state_, state_->group(name, ranks), static_cast<int>(place - ranks.begin()));
}

void ThreadWorld::abort(const std::string& reason) { state_->fail(reason); }

bool ThreadWorld::failed() const { return state_->failed(); }

std::string ThreadWorld::cause() const { return state_->cause(); }

ThreadWorld::RankScope::RankScope(ThreadWorld& world, int rank)
    : state_(world.state_), rank_(rank), exceptions_(std::uncaught_exceptions()) {
  CHECK(0 <= rank && rank < world.size());
}

ThreadWorld::RankScope::~RankScope() {
  if (std::uncaught_exceptions() > exceptions_) {
    state_->fail(fmt::format("an exception ended {}", state_->describe(rank_)));
  }
  state_->leave(rank_);
}

}  // namespace shoal
