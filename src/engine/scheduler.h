// SPDX-License-Identifier: Apache-2.0
// Scheduler of one replica: decides each step, which every rank then runs unchanged. Continuous batching: prompts (whole or in chunks)
// and generated tokens share a step within max_num_tokens and max_batch_size per attention-DP group, first come first served.
// Invariants:
//   - no eviction: a request is admitted when the pages of all its positions are free, and keeps them until it is released;
//   - a sequence is in one step at a time, except that consecutive chunks of a prompt may be in flight together;
//   - nobody starves: when a prompt does not fit beside the generated tokens, the next step serves prompts first; whoever was served
//     longest ago is next;
//   - what it decides depends on the order of calls only, never on time. Used by one thread.
// Not here: sampling, stop conditions (replica.h), which replica a request goes to (engine.h).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/block_table.h"
#include "cache/page_allocator.h"
#include "model/step.h"

namespace shoal {

struct SchedulerLimits {
  int groups = 1;                 // attention-DP groups of the replica
  int pipeline = 1;               // steps in flight at most
  int64_t max_batch_size = 2048;  // sequences per group and step
  int64_t max_num_tokens = 8192;  // tokens per group and step
  int64_t max_seq_len = 0;
  int64_t tokens_per_block = 32;
  int64_t pages = 0;              // per group
  bool mix_chunks = false;        // enable_chunked_prefill: cut any prompt to fill the room that is left
  int64_t max_score_rows = 8192;  // logits rows per group and step of sequences that want all of them
};

// A request as the scheduler sees it. The owner appends generated tokens between steps and keeps it alive until `release`.
struct Sequence {
  std::vector<int32_t> tokens;  // the prompt, then what was generated
  int64_t prompt_tokens = 0;
  int64_t max_tokens = 0;   // to generate
  bool all_logits = false;  // of every prompt row (scoring), not only of the last

  // The last token generated is never an input, so it needs no place in the cache.
  int64_t cache_tokens() const { return prompt_tokens + (max_tokens > 0 ? max_tokens - 1 : 0); }
  int64_t in_flight() const { return in_flight_; }

 private:
  friend class Scheduler;
  int group_ = -1;
  int64_t arrival_ = 0;
  int64_t scheduled_ = 0;  // leading tokens handed to steps
  int64_t in_flight_ = 0;
  bool admitted_ = false;
  BlockTable pages_;
};

// Rows [first_row, first_row + rows) of its group's batch, and which of the batch's logits are this sequence's.
struct StepEntry {
  Sequence* sequence = nullptr;
  int64_t first_position = 0;
  int64_t rows = 0;
  int64_t logits_begin = 0;  // index into Batch::logit_rows
  int64_t logits_count = 0;
};

struct ScheduledStep {
  StepPlan plan;
  std::vector<std::vector<StepEntry>> entries;  // by group
  int64_t prompt_rows = 0;
  int64_t generated_rows = 0;
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);

  // Why such a request could never run, with the numbers; empty if it can.
  static std::string never_fits(const SchedulerLimits& limits, int64_t prompt_tokens, int64_t max_tokens);

  // To the group with the fewest tokens. The request must fit.
  void add(Sequence& sequence);
  // The next step, if fewer than `pipeline` are in flight and some sequence has something to run.
  std::optional<ScheduledStep> next();
  // Steps complete in the order in which `next` gave them.
  void complete(const ScheduledStep& step);
  // Forgets a finished or cancelled sequence that is not in flight.
  void release(Sequence& sequence);

  int64_t used_pages() const;
  int64_t load_tokens() const;  // of all requests that are not released
  int64_t running() const;
  int64_t waiting() const;

 private:
  struct Group {
    explicit Group(const SchedulerLimits& limits) : pages(limits.pages, limits.tokens_per_block) {}
    PageAllocator pages;
    std::deque<Sequence*> waiting;
    std::vector<Sequence*> running;  // longest not served first
    bool prompts_first = false;      // the last step had no room for the first prompt
    int64_t load_tokens = 0;
    int64_t requests = 0;
  };
  struct Room;

  void plan_group(int index, ScheduledStep& step);
  bool admit(Group& group, Sequence& sequence);
  void schedule_prompts(Group& group, Room& room);
  void schedule_generated(Group& group, Room& room);
  int64_t chunk(const Sequence& sequence, const Room& room) const;
  void take(Sequence& sequence, int64_t rows, Room& room);

  SchedulerLimits limits_;
  std::vector<Group> groups_;
  int64_t arrivals_ = 0;
  int64_t steps_ = 0;
  int64_t in_flight_ = 0;
};

}  // namespace shoal
