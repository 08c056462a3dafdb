// SPDX-License-Identifier: Apache-2.0
#include "engine/attention_dp.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace shoal {
namespace {

// Requests that a group may have: a multiple of its fair share, or as many as the busiest one has anyway.
int64_t most_by_share(std::span<const GroupLoad> groups, int64_t most_requests, const AttentionDpConfig& config) {
  int64_t all = 1, busiest = 0;
  for (const GroupLoad& group : groups) {
    all += group.requests;
    busiest = std::max(busiest, group.requests);
  }
  const int64_t fair = (all + std::ssize(groups) - 1) / std::ssize(groups);
  const double share = std::ceil(config.kv_cache_routing_fair_share_multiplier * static_cast<double>(fair));
  return std::min(most_requests, std::max(busiest, static_cast<int64_t>(share)));
}

}  // namespace

std::optional<int> choose_group(std::span<const GroupLoad> groups, int64_t prompt_tokens, int64_t most_requests,
                                const AttentionDpConfig& config) {
  const bool by_cache = config.enable_kv_cache_aware_routing;
  const int64_t most = by_cache ? most_by_share(groups, most_requests, config) : most_requests;
  const auto prompt = static_cast<double>(prompt_tokens);
  double total = prompt;
  for (const GroupLoad& group : groups) total = std::max(total, static_cast<double>(group.tokens));
  const auto cost = [&](const GroupLoad& group) {
    if (!by_cache) return static_cast<double>(group.tokens);
    const auto matched = static_cast<double>(group.matched);
    const double used = matched >= config.kv_cache_routing_match_rate_threshold * prompt ? matched : 0.0;
    const double load = static_cast<double>(group.tokens) / total * prompt;
    return prompt - used + config.kv_cache_routing_load_balance_weight * load;
  };
  std::optional<int> best;
  for (int i = 0; i < static_cast<int>(groups.size()); ++i) {
    if (groups[i].requests >= most) continue;
    if (!best ||
        std::pair(cost(groups[i]), groups[i].requests) < std::pair(cost(groups[*best]), groups[*best].requests))
      best = i;
  }
  return best;
}

// True for at most `most` calls in a row.
bool PromptBalance::wait(int64_t& counter, int64_t most) {
  if (counter++ < most) return true;
  waited_ = batching_ = 0;
  return false;
}

bool PromptBalance::prompts_run(std::span<const GroupWork> groups) {
  if (!config_.enable_balance || groups.size() < 2) return true;
  bool all_prompts = true, any_prompts = false, all_generate = true, idle_but_for_prompts = false;
  for (const GroupWork& group : groups) {
    all_prompts = all_prompts && group.prompts;
    any_prompts = any_prompts || group.prompts;
    all_generate = all_generate && group.generation;
    idle_but_for_prompts = idle_but_for_prompts || (group.prompts && !group.generation);
  }
  if (!any_prompts) return true;
  if (all_prompts) {
    waited_ = 0;
    return !all_generate || !wait(batching_, config_.batching_wait_iters);
  }
  if (!idle_but_for_prompts) return !wait(waited_, config_.timeout_iters);
  waited_ = batching_ = 0;
  return true;
}

}  // namespace shoal
