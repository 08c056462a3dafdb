// SPDX-License-Identifier: Apache-2.0
// GroupScheduler: what one attention-DP group runs in each step: generated tokens and prompts (whole or in chunks) together, within
// max_num_tokens and max_batch_size. Continuous batching (Yu et al., Orca, OSDI 2022) over paged memory (Kwon et al., SOSP 2023).
// Invariants:
//   - a sequence is in one step at a time, except that consecutive chunks of a prompt may be in flight together, and that a step planned
//     ahead may take the token that the last one in flight samples, before it is known;
//   - GUARANTEED_NO_EVICT: a sequence starts when all its pages are sure to be there; MAX_UTILIZATION: when those of what is known are,
//     and then the lowest-ranked sequence outside the step gives way to a higher one, to start again later from what is still cached;
//     STATIC_BATCH: as the first, once all that run have ended;
//   - nobody starves: waiting sequences start in the order of rank, only lower-ranked ones are preempted, prompts and generated
//     tokens go first by turns where they do not fit together, and whoever was served longest ago is next.
// Not here: which group a sequence goes to (scheduler.h). Used by one thread.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/kv_cache.h"
#include "engine/attention_dp.h"
#include "engine/sequence.h"

namespace shoal {

enum class CapacityPolicy : uint8_t { kGuaranteedNoEvict, kMaxUtilization, kStaticBatch };
enum class ChunkPolicy : uint8_t { kFirstComeFirstServed, kEqualProgress, kForceChunk };

struct SchedulerLimits {
  int groups = 1;                 // attention-DP groups of the replica
  int pipeline = 1;               // stages: steps in flight at most
  bool overlap = false;           // and one more, planned before the tokens are known that it needs
  int64_t max_batch_size = 2048;  // sequences per group and step
  int64_t max_num_tokens = 8192;  // tokens per group and step
  int64_t max_seq_len = 0;
  KvCacheLimits cache;            // per group
  bool mix_chunks = false;        // enable_chunked_prefill: cut any prompt to fill the room that is left
  int64_t max_score_rows = 8192;  // logits rows per group and step of sequences that want all of them
  bool generated_roles = false;   // generated positions differ in bits from the same tokens in a prompt: not for reuse
  CapacityPolicy capacity = CapacityPolicy::kGuaranteedNoEvict;
  ChunkPolicy chunks = ChunkPolicy::kFirstComeFirstServed;
  AttentionDpConfig attention_dp{};
  bool priorities = false;  // waiting_queue_policy: priority; else first come, first served

  int64_t most_running() const { return max_batch_size * pipeline; }
};

// What one plan may take.
struct PlanRules {
  int group = 0;
  bool prompts = true;  // start, or go on
  bool ahead = false;   // rows whose token is not known yet
};

class GroupScheduler {
 public:
  explicit GroupScheduler(const SchedulerLimits& limits) : limits_(limits), cache_(limits.cache) {}

  void add(Sequence& sequence);
  void release(Sequence& sequence);
  // The group's share of the step.
  void plan(const PlanRules& rules, ScheduledStep& step);

  KvCache& cache() { return cache_; }
  const KvCache& cache() const { return cache_; }
  int64_t running() const { return std::ssize(running_); }
  int64_t waiting() const { return std::ssize(waiting_); }
  int64_t requests() const { return running() + waiting(); }
  int64_t load_tokens() const { return load_tokens_; }
  int64_t preemptions() const { return preemptions_; }
  bool has_prompts() const;
  bool has_generation(bool ahead) const;

 private:
  struct Room;
  bool before(const Sequence& a, const Sequence& b) const;
  static bool generating(const Sequence& sequence);
  static bool ready(const Sequence& sequence, bool ahead);
  static bool startable(const Sequence& sequence);
  void schedule_generated(Room& room);
  void schedule_prompts(Room& room);
  std::vector<Sequence*> running_prompts() const;
  bool start_next(Room& room, int64_t most);
  int64_t reusable_tokens(const Sequence& sequence) const;
  int64_t chunk(const Sequence& sequence, int64_t first, const Room& room, int64_t most) const;
  bool find_pages(Sequence& sequence, int64_t rows);
  bool preempt_below(const Sequence& sequence);
  void enqueue(Sequence& sequence);
  void take(Sequence& sequence, int64_t rows, Room& room);
  void add_row(Sequence& sequence, int64_t position, StepEntry& entry, Room& room);
  void publish(const Room& room);

  SchedulerLimits limits_;
  KvCache cache_;
  std::vector<Sequence*> waiting_;  // by rank
  std::vector<Sequence*> running_;  // longest not served first
  bool prompts_first_ = false;      // the last step had no room for the first prompt
  int64_t plans_ = 0;
  int64_t load_tokens_ = 0;
  int64_t preemptions_ = 0;
};

}  // namespace shoal
