// SPDX-License-Identifier: Apache-2.0
// RankWorld: all ranks of a model instance, each a thread that runs jobs from its own queue in order and owns its backend, model and
// view of the groups.
// Invariants: the first exception in any rank is the failure of the world: it is kept with the rank's name, the others are woken out of
// their waits, no job starts afterwards, and nothing ever waits for a rank that is gone.
// Not here: what a step is made of (replica.h decides, rank_step.h runs it).
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backend/factory.h"
#include "comm/comm.h"
#include "engine/mailbox.h"
#include "engine/rank_meter.h"
#include "engine/stage_model.h"
#include "parallel/mesh.h"

namespace shoal {

class ThreadWorld;

// A rank failed: its name, and what happened. The engine is of no further use.
class EngineFailure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// One rank's own things; its jobs get it.
struct RankState {
  int rank = 0;
  Coordinates at;
  bool first_stage = true;
  bool last_stage = true;
  int64_t hidden_size = 0;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Comm> attn, cp, ffn_tp, moe, pp;
  std::unique_ptr<StageModel> model;
  RankMeter* meter = nullptr;  // the world's
};

struct RankWorldSetup {
  Mesh mesh;
  int64_t hidden_size = 0;
  BackendOptions backend;               // `cores` are set per rank
  std::vector<std::vector<int>> cores;  // per rank; empty: not pinned
  double comm_timeout_s = 300.0;
  StageModelFactory models;
};

// Counts the latch down when the last copy is destroyed: captured in a job, when the job has run, failed or been dropped.
std::shared_ptr<void> count_down_at_end(std::shared_ptr<std::latch> latch);

class RankWorld {
 public:
  using Job = std::function<void(RankState&)>;

  // Starts the threads; each makes its backend, groups and model (nothing is read yet).
  explicit RankWorld(RankWorldSetup setup);
  ~RankWorld();

  const Mesh& mesh() const { return setup_.mesh; }
  double timeout_s() const { return setup_.comm_timeout_s; }
  // Such as "rank 3 (dp 0, stage 1, tp 1)".
  std::string rank_name(int rank) const;
  void post(int rank, Job job);
  // Runs `job` on every rank and waits. Throws the world's failure: the user's Error as it is, anything else as EngineFailure.
  void on_all(const Job& job);

  // Of every rank; thread-safe.
  std::vector<RankStats> stats() const;
  // What each rank's backend holds.
  const std::vector<std::shared_ptr<MemoryMeter>>& memory() const { return memory_; }

  // Called once, on the failing rank's thread, after the failure is known. Returns when no earlier listener runs any more.
  void when_failed(std::function<void(const std::string&)> listener);
  // "rank 3 (dp 0, pp 1, tp 1): ..." of the first failure.
  std::optional<std::string> failure() const;
  // Makes every rank fail with this reason (for a rank that nothing can be expected of any more).
  void abort(const std::string& reason);

 private:
  void run(int rank);
  void build(RankState& state);
  void fail(int rank, std::exception_ptr cause, const std::string& text);

  RankWorldSetup setup_;
  std::unique_ptr<ThreadWorld> comms_;
  std::vector<std::unique_ptr<RankMeter>> meters_;
  std::vector<std::shared_ptr<MemoryMeter>> memory_;
  std::vector<std::unique_ptr<Mailbox<Job>>> jobs_;
  mutable std::mutex mutex_;
  std::optional<std::string> failure_;
  int failed_rank_ = -1;
  std::exception_ptr cause_;
  std::mutex listener_mutex_;  // taken before mutex_; held while the listener runs
  std::function<void(const std::string&)> listener_;
  std::vector<std::thread> threads_;
};

}  // namespace shoal
