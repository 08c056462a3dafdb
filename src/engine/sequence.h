// SPDX-License-Identifier: Apache-2.0
// Sequence: a request as the scheduler sees it; StepEntry and ScheduledStep: its part in a step, and the step.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cache/kv_cache.h"
#include "model/step.h"

namespace shoal {

// The owner appends each generated token when its step has completed, and keeps the sequence alive until `release` and the end of every
// step that it is in.
struct Sequence {
  std::vector<int32_t> tokens;  // the prompt, then what was generated
  int64_t prompt_tokens = 0;
  int64_t max_tokens = 0;                // to generate
  bool all_logits = false;               // of every prompt row (scoring), not only of the last
  double priority = 0.5;                 // more urgent if larger; counts with waiting_queue_policy: priority
  std::string cache_salt;                // shares pages with sequences of the same salt only
  std::optional<int> attention_dp_rank;  // group to run in
  bool attention_dp_relax = true;        // another one will do when that is full

  // The last token generated is never an input, so it needs no place in the cache.
  int64_t cache_tokens() const { return prompt_tokens + (max_tokens > 0 ? max_tokens - 1 : 0); }
  int64_t in_flight() const { return in_flight_; }
  int64_t expected() const { return expected_; }
  int64_t reused_tokens() const { return reused_tokens_; }

 private:
  friend class Scheduler;
  friend class GroupScheduler;
  int group_ = -1;
  int64_t arrival_ = 0;
  int64_t scheduled_ = 0;    // leading tokens that the cache holds, or will when the steps in flight are done
  int64_t in_flight_ = 0;    // steps
  int64_t expected_ = 0;     // tokens that steps in flight will bring; at most two
  int64_t sampled_by_ = -1;  // the last step that brings one
  int64_t logits_from_ = 0;  // all_logits: positions before it were delivered
  int64_t reused_tokens_ = 0;
  int64_t planned_ = -1;  // last plan of its group that serves it
  bool running_ = false;
  KvSequence kv_;
};

// Rows [first_row, first_row + rows) of its group's batch, and which of the batch's logits are this sequence's.
struct StepEntry {
  Sequence* sequence = nullptr;
  int64_t first_row = 0;
  int64_t first_position = 0;
  int64_t rows = 0;
  int64_t logits_begin = 0;  // index into Batch::logit_rows
  int64_t logits_count = 0;
  bool samples = false;  // the step brings a token
  bool awaits_token =
      false;  // its one row's input is sampled by a step in flight: kUnknownToken in the batch until then
};

constexpr int32_t kUnknownToken = -1;

struct ScheduledStep {
  StepPlan plan;
  std::vector<std::vector<StepEntry>> entries;  // by group
  std::vector<int64_t> awaits;  // by group: the step in flight that samples the last unknown token; -1: none
  int64_t prompt_rows = 0;
  int64_t generated_rows = 0;
};

}  // namespace shoal
