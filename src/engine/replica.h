// SPDX-License-Identifier: Apache-2.0
// Replica: runs the requests of one data-parallel replica. Its thread owns the scheduler: it hands each step to the replica's ranks, takes the
// sampled tokens, plans what comes next, and only then makes text of them and tells whoever asked. Steps are in flight for every pipeline
// stage, and one more: the ranks begin it by themselves as soon as the tokens that it needs are sampled.
// Invariants: every request that was taken gets on_finish exactly once, whatever fails; steps complete in order; the thread sleeps
// while there is nothing to do.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <latch>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine_stats.h"
#include "engine/live_request.h"
#include "engine/rank_step.h"
#include "engine/rank_world.h"
#include "engine/scheduler.h"

namespace shoal {

class Replica : private StepSink {
 public:
  // `experts`: null for a model without routed experts.
  Replica(RankWorld& world, int index, const SchedulerLimits& limits, std::shared_ptr<ExpertBalancer> experts);
  // Cancels what is left and waits for the steps in flight.
  ~Replica() override;

  // All at once: the scheduler sees either none or all of them.
  void submit(std::vector<std::shared_ptr<LiveRequest>> requests);
  void cancel(uint64_t id);
  // Soon: forgets cached prefixes that no request uses.
  void clear_cache();
  // Every request ends with this error, now and from now on.
  void fail(const std::string& reason);

  int64_t load_tokens() const { return load_tokens_; }
  StepStats stats() const;
  // As of the last step that was planned or settled.
  CacheUse cache_use() const;
  RequestCounts request_counts() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct InFlight {
    std::shared_ptr<StepTask> task;
    std::shared_ptr<std::latch> ranks_left;  // that may still touch the task
    Clock::time_point launched;
  };

  // A token of the oldest step, to be told.
  struct Output {
    LiveRequest* request = nullptr;
    TokenLogprob token;
    FinishReason ends = FinishReason::kNone;
  };

  void fill_tokens(StepTask& task, int rank, int group) override;
  void on_logits(const StepTask& task, int group, std::span<const float> logits) override;
  void on_done(const StepTask& task, int group) override;

  void run();
  bool take_events();
  bool oldest_is_done();
  void start_steps();
  void launch(ScheduledStep step);
  void note_start(LiveRequest& request);
  void advance();
  std::vector<Output> settle(const StepTask& task);
  std::optional<Output> settle(LiveRequest& request, const StepEntry& entry);
  Output accept(LiveRequest& request, int64_t position);
  void tell(const Output& output);
  void tell_scored(LiveRequest& request);
  void release(LiveRequest& request);
  void finish(LiveRequest& request, FinishReason reason, const std::string& error = {});
  void finish_cancelled();
  void fail_all();
  void count(const InFlight& done);
  std::string late_message(int rank, int group, int64_t step) const;
  void note_state();

  RankWorld& world_;
  int index_;
  SchedulerLimits limits_;
  std::shared_ptr<ExpertBalancer> experts_;
  Scheduler scheduler_;                                        // the thread's
  std::map<uint64_t, std::shared_ptr<LiveRequest>> requests_;  // the thread's
  std::deque<InFlight> in_flight_;                             // the thread's
  std::vector<uint64_t> cancelling_;                           // the thread's
  Clock::time_point last_completion_;                          // the thread's
  Clock::time_point busy_since_;                               // the thread's: of the steps in flight
  std::atomic<int64_t> load_tokens_{0};
  std::atomic<int64_t> sampling_ns_{0}, planning_ns_{0}, output_ns_{0};

  mutable std::mutex mutex_;  // for what follows
  std::condition_variable event_;
  std::vector<std::shared_ptr<LiveRequest>> arrivals_;
  std::vector<uint64_t> cancels_;
  std::condition_variable tokens_;
  std::vector<int64_t> sampled_steps_;  // by group: the last one whose tokens are there
  std::map<int64_t, int> done_groups_;  // step -> groups that have finished it
  std::optional<std::string> failure_;
  bool stopping_ = false;
  bool clearing_ = false;
  StepStats stats_;
  CacheUse cache_use_;
  RequestCounts request_counts_;

  std::thread thread_;
};

}  // namespace shoal
