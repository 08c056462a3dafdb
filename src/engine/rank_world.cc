// SPDX-License-Identifier: Apache-2.0
#include "engine/rank_world.h"

#include <fmt/format.h>

#include <chrono>
#include <latch>
#include <new>

#include "base/error.h"
#include "comm/thread/thread_world.h"
#include "comm/timed_comm.h"

namespace shoal {
namespace {

std::string describe(const std::exception_ptr& cause) {
  try {
    std::rethrow_exception(cause);
  } catch (const std::bad_alloc&) {
    return "out of memory";
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "unknown exception";
  }
}

}  // namespace

std::shared_ptr<void> count_down_at_end(std::shared_ptr<std::latch> latch) {
  return std::shared_ptr<void>(nullptr, [latch](void*) { latch->count_down(); });
}

RankWorld::RankWorld(RankWorldSetup setup) : setup_(std::move(setup)) {
  const int ranks = setup_.mesh.world_size();
  WorldOptions options;
  options.timeout = std::chrono::milliseconds(static_cast<int64_t>(setup_.comm_timeout_s * 1000.0));
  options.busy_threads = ranks * setup_.backend.threads;
  comms_ = std::make_unique<ThreadWorld>(ranks, options);
  for (int rank = 0; rank < ranks; ++rank) {
    jobs_.push_back(std::make_unique<Mailbox<Job>>());
    meters_.push_back(std::make_unique<RankMeter>(ranks));
    memory_.push_back(std::make_shared<MemoryMeter>());
  }
  for (int rank = 0; rank < ranks; ++rank) threads_.emplace_back([this, rank] { run(rank); });
  try {
    on_all([this](RankState& state) { build(state); });
  } catch (...) {
    for (std::thread& thread : threads_) thread.join();
    throw;
  }
}

RankWorld::~RankWorld() {
  try {
    on_all([](RankState&) {});  // whoever leaves early would be missed by those still in a step
  } catch (...) {               // failed: they are on their way out
  }
  for (const auto& jobs : jobs_) jobs->close();
  for (std::thread& thread : threads_) thread.join();
}

void RankWorld::run(int rank) {
  const ThreadWorld::RankScope scope(*comms_, rank);
  RankState state;
  state.rank = rank;
  state.at = setup_.mesh.at(rank);
  while (std::optional<Job> job = jobs_[rank]->receive()) {
    try {
      (*job)(state);
    } catch (...) {  // while the job is still there: whoever waits for its end must find the failure
      fail(rank, std::current_exception(), describe(std::current_exception()));
      return;
    }
  }
}

void RankWorld::build(RankState& state) {
  const Mesh& mesh = setup_.mesh;
  state.first_stage = state.at.pp == 0;
  state.last_stage = state.at.pp == mesh.sizes().pipeline - 1;
  state.hidden_size = setup_.hidden_size;
  BackendOptions options = setup_.backend;
  options.cores = setup_.cores[state.rank];
  options.memory = memory_[state.rank];
  state.backend = make_backend(options);
  state.meter = meters_[state.rank].get();
  const auto group = [&](Axis axis, const char* name) {
    const std::vector<int> ranks = mesh.group(axis, state.rank);
    CommMeter& meter = axis == Axis::kPp ? state.meter->stage : state.meter->communication;
    return std::make_unique<TimedComm>(comms_->group(ranks, state.rank, name), meter, state.meter->sent, ranks);
  };
  state.attn = group(Axis::kAttn, "attn");
  state.cp = group(Axis::kCp, "cp");
  state.ffn_tp = group(Axis::kFfnTp, "ffn_tp");
  state.moe = group(Axis::kMoe, "moe");
  state.pp = group(Axis::kPp, "pp");
  state.model = setup_.models(state.rank, *state.backend);
}

void RankWorld::post(int rank, Job job) { jobs_[rank]->post(std::move(job)); }

void RankWorld::on_all(const Job& job) {
  const auto latch = std::make_shared<std::latch>(std::ssize(jobs_));
  for (size_t rank = 0; rank < jobs_.size(); ++rank) {
    post(static_cast<int>(rank), [job, ticket = count_down_at_end(latch)](RankState& state) { job(state); });
  }
  latch->wait();
  const std::lock_guard lock(mutex_);
  if (!failure_) return;
  try {
    if (cause_) std::rethrow_exception(cause_);
  } catch (const Error&) {
    throw;
  } catch (...) {
  }
  throw EngineFailure(*failure_);
}

std::vector<RankStats> RankWorld::stats() const {
  std::vector<RankStats> stats;
  for (int rank = 0; rank < std::ssize(meters_); ++rank)
    stats.push_back(meters_[rank]->stats(rank, setup_.mesh.at(rank)));
  const std::lock_guard lock(mutex_);
  if (failed_rank_ >= 0) stats[failed_rank_].failed = true;
  return stats;
}

void RankWorld::when_failed(std::function<void(const std::string&)> listener) {
  const std::lock_guard lock(listener_mutex_);
  listener_ = std::move(listener);
}

std::optional<std::string> RankWorld::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void RankWorld::abort(const std::string& reason) { fail(-1, nullptr, reason); }

void RankWorld::fail(int rank, std::exception_ptr cause, const std::string& text) {
  const std::lock_guard listening(listener_mutex_);
  std::string failure;
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    failure_ = rank < 0 ? text : fmt::format("{}: {}", rank_name(rank), text);
    failed_rank_ = rank;
    cause_ = std::move(cause);
    failure = *failure_;
  }
  comms_->abort(failure);
  for (const auto& jobs : jobs_) jobs->close();
  if (listener_) listener_(failure);
}

std::string RankWorld::rank_name(int rank) const {
  const Coordinates at = setup_.mesh.at(rank);
  return fmt::format("rank {} (dp {}, stage {}, tp {})", rank, at.dp, at.pp, at.tp);
}

}  // namespace shoal
