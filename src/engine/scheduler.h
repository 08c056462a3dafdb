// SPDX-License-Identifier: Apache-2.0
// Scheduler of one replica: decides each step, which every rank then runs unchanged. It sends requests to attention-DP groups
// (attention_dp.h) and lets each group plan its share of the step (group_scheduler.h).
// Invariant: what it decides depends on the order of calls only, never on time. Used by one thread.
// Not here: sampling, stop conditions (replica.h), which replica a request goes to (engine.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/attention_dp.h"
#include "engine/group_scheduler.h"
#include "engine/sequence.h"

namespace shoal {

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);

  // Why such a request could never run, with the numbers; empty if it can.
  static std::string never_fits(const SchedulerLimits& limits, int64_t prompt_tokens, int64_t max_tokens);

  // The request must fit.
  void add(Sequence& sequence);
  // The next step, if there is room for one more in flight and some sequence has something to run: `pipeline` steps, and with `overlap`
  // one that may need tokens which those in flight sample.
  std::optional<ScheduledStep> next();
  // Steps complete in the order in which `next` gave them; the owner then appends the tokens that they sampled.
  void complete(const ScheduledStep& step);
  // Forgets a finished or cancelled sequence; steps in flight may still compute it, and what they sample for it counts for nothing.
  void release(Sequence& sequence);

  // Forgets what is cached and used by nobody.
  void clear_cache();

  int64_t total_pages() const;
  int64_t used_pages() const;
  int64_t cached_pages() const;
  int64_t load_tokens() const;  // of all requests that are not released
  int64_t running() const;
  int64_t waiting() const;
  int64_t preemptions() const;
  KvCacheStats cache_stats() const;  // of all groups

 private:
  void place_waiting();
  std::optional<int> group_for(const Sequence& sequence) const;
  bool before(const Sequence& a, const Sequence& b) const;

  SchedulerLimits limits_;
  std::vector<GroupScheduler> groups_;
  std::vector<Sequence*> unplaced_;  // by rank
  PromptBalance balance_;
  int64_t unplaced_tokens_ = 0;
  int64_t arrivals_ = 0;
  int64_t steps_ = 0;
  int64_t in_flight_ = 0;
};

}  // namespace shoal
