// SPDX-License-Identifier: Apache-2.0
// A request while it runs: its place in the schedule, its sampler, its text so far, and whom to tell.
#pragma once

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
  std::function<void()> on_start{};  // its first step has been planned; must not throw
  std::function<void(const OutputDelta&)> on_output;
  std::function<void(const LogitRows&)> on_logits;  // set: the prompt is scored, nothing is generated
  std::function<void(GenerationResult)> on_finish;  // exactly once
};

struct LiveRequest : Sequence {
  uint64_t id = 0;
  RequestCallbacks callbacks;
  std::vector<int32_t> stop_ids;
  std::unique_ptr<Sampler> sampler;  // null when scoring
  std::unique_ptr<OutputText> text;
  GenerationResult result;
  bool started = false;
  bool cancelled = false;
  TokenLogprob sampled;     // written by the leading rank's thread during a step, read by the replica's after it
  std::string score_error;  // of on_logits; guarded by the replica's mutex
};

}  // namespace shoal
