// SPDX-License-Identifier: Apache-2.0
// A request while it runs: its place in the schedule, its sampler, its text so far, and whom to tell.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/output_text.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"

namespace shoal {

// What one more token brought. `text` may be empty (a character or stop string is not decided yet).
struct OutputDelta {
  TokenLogprob token;
  std::string text;
  FinishReason finish_reason = FinishReason::kNone;
};

// Rows of logits of a scored prompt, f32 [rows, vocab], from position `first` on.
struct LogitRows {
  int64_t first = 0;
  int64_t rows = 0;
  std::span<const float> values;
};

// Called on engine threads; they must not wait for the engine.
struct RequestCallbacks {
  std::function<void()> on_start{};  // once: its first step has been handed to the ranks; must not throw
  std::function<void(const OutputDelta&)> on_output;
  std::function<void(const LogitRows&)> on_logits;  // set: the prompt is scored, nothing is generated
  std::function<void(GenerationResult)> on_finish;  // exactly once
};

// Two tokens may be on their way at a time: each has its place by its position's parity.
struct LiveRequest : Sequence {
  using Clock = std::chrono::steady_clock;
  uint64_t id = 0;
  RequestCallbacks callbacks;
  std::vector<int32_t> stop_ids;
  std::unique_ptr<Sampler> sampler;  // null when scoring
  std::unique_ptr<OutputText> text;
  GenerationResult result;
  Clock::time_point submitted = Clock::now();
  bool started = false;
  bool released = false;  // by the scheduler: what steps in flight bring counts for nothing
  // Written by the leading rank's thread during a step; read after it, and by the next step's first stage.
  TokenLogprob sampled[2];
  std::string score_error;  // of on_logits; guarded by the replica's mutex

  TokenLogprob& sampled_at(int64_t position) { return sampled[position % 2]; }
  double age_seconds() const { return std::chrono::duration<double>(Clock::now() - submitted).count(); }
};

}  // namespace shoal
