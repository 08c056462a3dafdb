// SPDX-License-Identifier: Apache-2.0
// Attention-DP groups: which one a request goes to, and when prompts wait so that groups compute them at the same time (a step ends
// with its slowest group). The keys and their meaning are the reference's `attention_dp_config`. Values only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace shoal {

struct AttentionDpConfig {
  bool enable_balance = false;
  int64_t timeout_iters = 50;        // steps that prompts wait while some group has none
  int64_t batching_wait_iters = 10;  // steps that prompts wait to grow in number while every group has other work too
  bool enable_kv_cache_aware_routing = false;
  double kv_cache_routing_load_balance_weight = 1.0;
  double kv_cache_routing_match_rate_threshold = 0.1;   // of the prompt; less counts as nothing
  double kv_cache_routing_fair_share_multiplier = 2.0;  // requests of a group above its fair share
};

struct GroupLoad {
  int64_t requests = 0;
  int64_t tokens = 0;   // prompts and what is to be generated
  int64_t matched = 0;  // leading tokens of the request that the group has cached
};

// The group for a request of `prompt_tokens`: the one with the fewest tokens, or with cache-aware routing the lowest cost: what it would
// have to compute, plus its share of the load in the same unit. Groups with `most_requests` are full; none if all are.
std::optional<int> choose_group(std::span<const GroupLoad> groups, int64_t prompt_tokens, int64_t most_requests,
                                const AttentionDpConfig& config);

struct GroupWork {
  bool prompts = false;     // has prompts that could run now
  bool generation = false;  // has tokens to generate
};

// Whether prompts run in a step; asked once a step.
class PromptBalance {
 public:
  explicit PromptBalance(const AttentionDpConfig& config = {}) : config_(config) {}
  bool prompts_run(std::span<const GroupWork> groups);

 private:
  bool wait(int64_t& counter, int64_t most);

  AttentionDpConfig config_;
  int64_t waited_ = 0;    // steps, for a group without prompts
  int64_t batching_ = 0;  // steps, for more prompts
};

}  // namespace shoal
