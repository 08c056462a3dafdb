// SPDX-License-Identifier: Apache-2.0
// Requests and what comes back from them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace shoal {

class Grammar;

struct SamplingParams {
  int64_t max_tokens = 64;
  float temperature = 0.0f;  // 0: greedy
  float top_p = 1.0f;
  int64_t top_k = 0;  // 0: off
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;  // Keskar et al. 2019, over prompt and output
  float presence_penalty = 0.0f;    // over output
  float frequency_penalty = 0.0f;
  std::optional<uint64_t> seed{};  // absent: 0 for greedy, else drawn once per request
  bool ignore_eos = false;
  std::vector<std::string> stop{};
  std::vector<int32_t> stop_token_ids{};
  int64_t logprobs = 0;                         // top alternatives to report; the chosen token's is always reported
  std::map<int32_t, float> logit_bias{};        // by token id, added to its logit; -100 to 100
  int64_t min_tokens = 0;                       // to generate before a token may end the text
  std::shared_ptr<const Grammar> constraint{};  // of the text; null: none (text/grammar/grammar.h)
  bool skip_special_tokens = true;              // in the text; false where a parser needs them (text/tool_calls.h)
};

// Where and when a request runs; never what comes of it.
struct SchedulingParams {
  double priority = 0.5;                   // with waiting_queue_policy: priority, the larger first; 0 to 1
  std::string cache_salt{};                // shares cached prefixes with requests of the same salt only
  std::optional<int> attention_dp_rank{};  // attention-DP group to run in
  bool attention_dp_relax = true;          // when that one is full, another will do
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kError };

struct TokenLogprob {
  int32_t token = -1;
  float logprob = 0.0f;  // raw log-softmax, before temperature and penalties
  std::vector<std::pair<int32_t, float>> top;
  bool ends_text = false;  // the constraint's text is complete with it, and nothing can follow
};

// By the engine's clock, from the moment the request was taken. What has not happened is 0.
struct RequestTimes {
  double queue_seconds = 0;        // until the first step that computes any of it began
  double first_token_seconds = 0;  // until the first token was there: what users call TTFT
  double end_seconds = 0;          // until on_finish
};

struct GenerationResult {
  std::vector<int32_t> prompt_token_ids;
  std::vector<int32_t> token_ids;
  std::string text;
  std::vector<TokenLogprob> logprobs;
  int64_t cached_tokens = 0;  // of the prompt, that came from the cache
  RequestTimes times;
  FinishReason finish_reason = FinishReason::kNone;
  std::string error;
};

}  // namespace shoal
