// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace shoal {

Scheduler::Scheduler(const SchedulerLimits& limits) : limits_(limits), balance_(limits.attention_dp) {
  CHECK(limits.groups >= 1 && limits.pipeline >= 1);
  CHECK(limits.max_batch_size >= 1 && limits.max_num_tokens >= 1 && limits.max_score_rows >= 1);
  for (int i = 0; i < limits.groups; ++i) groups_.emplace_back(limits);
}

std::string Scheduler::never_fits(const SchedulerLimits& limits, int64_t prompt_tokens, int64_t max_tokens) {
  if (prompt_tokens == 0) return "the prompt has no tokens; at least one is needed";
  if (max_tokens < 0) return fmt::format("max_tokens is {}; it must be at least 1", max_tokens);
  const int64_t length = prompt_tokens + max_tokens;
  if (length > limits.max_seq_len) {
    return fmt::format(
        "the prompt's {} tokens and max_tokens {} make {}, above max_seq_len {}; shorten the prompt, or ask for at "
        "most {}",
        prompt_tokens, max_tokens, length, limits.max_seq_len,
        std::max<int64_t>(0, limits.max_seq_len - prompt_tokens));
  }
  const KvCache::Shortage shortage =
      KvCache::shortage(limits.cache, length - (max_tokens > 0 ? 1 : 0), limits.max_num_tokens);
  if (shortage.pool >= 0) {
    return fmt::format(
        "the prompt's {} tokens and max_tokens {} need {} KV pages of {} tokens, and there are {}; raise "
        "kv_cache_config.max_tokens or ask for less",
        prompt_tokens, max_tokens, shortage.needed, limits.cache.tokens_per_block,
        limits.cache.pools[shortage.pool].pages);
  }
  return {};
}

// --- requests

bool Scheduler::before(const Sequence& a, const Sequence& b) const {
  if (limits_.priorities && a.priority != b.priority) return a.priority > b.priority;
  return a.arrival_ < b.arrival_;
}

void Scheduler::add(Sequence& sequence) {
  CHECK(never_fits(limits_, sequence.prompt_tokens, sequence.max_tokens).empty());
  CHECK_EQ(sequence.prompt_tokens, static_cast<int64_t>(sequence.tokens.size()));
  CHECK(!sequence.attention_dp_rank ||
        (*sequence.attention_dp_rank >= 0 && *sequence.attention_dp_rank < limits_.groups));
  sequence.arrival_ = arrivals_++;
  unplaced_tokens_ += sequence.prompt_tokens + sequence.max_tokens;
  const auto place = std::upper_bound(unplaced_.begin(), unplaced_.end(), &sequence,
                                      [this](const Sequence* a, const Sequence* b) { return before(*a, *b); });
  unplaced_.insert(place, &sequence);
}

std::optional<int> Scheduler::group_for(const Sequence& sequence) const {
  const int64_t most = limits_.most_running();
  if (sequence.attention_dp_rank) {
    if (groups_[*sequence.attention_dp_rank].requests() < most) return sequence.attention_dp_rank;
    if (!sequence.attention_dp_relax) return std::nullopt;
  }
  if (groups_.size() == 1 && groups_[0].requests() < most) return 0;
  std::vector<GroupLoad> loads;
  for (const GroupScheduler& group : groups_) {
    loads.push_back({.requests = group.requests(), .tokens = group.load_tokens()});
    if (limits_.attention_dp.enable_kv_cache_aware_routing && !sequence.all_logits)
      loads.back().matched = group.cache().reusable(sequence.tokens, sequence.cache_salt);
  }
  return choose_group(loads, sequence.prompt_tokens, most, limits_.attention_dp);
}

// As many as groups have seats for; the rest stays here, so that a group which is done early takes more of it.
void Scheduler::place_waiting() {
  const auto full = [&](const GroupScheduler& group) { return group.requests() >= limits_.most_running(); };
  std::erase_if(unplaced_, [&](Sequence* sequence) {
    if (std::all_of(groups_.begin(), groups_.end(), full)) return false;
    const std::optional<int> group = group_for(*sequence);
    if (!group) return false;
    sequence->group_ = *group;
    unplaced_tokens_ -= sequence->prompt_tokens + sequence->max_tokens;
    groups_[*group].add(*sequence);
    return true;
  });
}

void Scheduler::release(Sequence& sequence) {
  if (sequence.group_ >= 0) {
    groups_[sequence.group_].release(sequence);
  } else {
    unplaced_tokens_ -= sequence.prompt_tokens + sequence.max_tokens;
    CHECK_EQ(std::erase(unplaced_, &sequence), 1u);
  }
}

// --- steps

std::optional<ScheduledStep> Scheduler::next() {
  const bool ahead = in_flight_ >= limits_.pipeline;  // the stages have work: time to guess at what follows it
  if (in_flight_ >= limits_.pipeline + (limits_.overlap ? 1 : 0)) return std::nullopt;
  place_waiting();
  std::vector<GroupWork> work;
  for (const GroupScheduler& group : groups_)
    work.push_back({.prompts = group.has_prompts(), .generation = group.has_generation(ahead)});
  const bool prompts = balance_.prompts_run(work);
  ScheduledStep step;
  step.plan.step = steps_;
  step.plan.groups.resize(limits_.groups);
  step.entries.resize(limits_.groups);
  step.awaits.resize(limits_.groups, -1);
  for (int i = 0; i < limits_.groups; ++i) groups_[i].plan({.group = i, .prompts = prompts, .ahead = ahead}, step);
  if (step.prompt_rows + step.generated_rows == 0) return std::nullopt;
  ++steps_;
  ++in_flight_;
  return step;
}

void Scheduler::complete(const ScheduledStep& step) {
  CHECK_GT(in_flight_, 0);
  --in_flight_;
  for (const std::vector<StepEntry>& entries : step.entries)
    for (const StepEntry& entry : entries) {
      --entry.sequence->in_flight_;
      if (entry.samples) --entry.sequence->expected_;
    }
}

// --- counts

void Scheduler::clear_cache() {
  for (GroupScheduler& group : groups_) group.cache().clear();
}

int64_t Scheduler::total_pages() const {
  int64_t sum = 0;
  for (const GroupScheduler& group : groups_) sum += group.cache().total_pages();
  return sum;
}

int64_t Scheduler::used_pages() const {
  int64_t sum = 0;
  for (const GroupScheduler& group : groups_) sum += group.cache().used_pages();
  return sum;
}

int64_t Scheduler::cached_pages() const {
  int64_t sum = 0;
  for (const GroupScheduler& group : groups_) sum += group.cache().cached_pages();
  return sum;
}

int64_t Scheduler::load_tokens() const {
  int64_t sum = unplaced_tokens_;
  for (const GroupScheduler& group : groups_) sum += group.load_tokens();
  return sum;
}

int64_t Scheduler::running() const {
  int64_t sum = 0;
  for (const GroupScheduler& group : groups_) sum += group.running();
  return sum;
}

int64_t Scheduler::waiting() const {
  int64_t sum = std::ssize(unplaced_);
  for (const GroupScheduler& group : groups_) sum += group.waiting();
  return sum;
}

int64_t Scheduler::preemptions() const {
  int64_t sum = 0;
  for (const GroupScheduler& group : groups_) sum += group.preemptions();
  return sum;
}

KvCacheStats Scheduler::cache_stats() const {
  KvCacheStats sum;
  for (const GroupScheduler& group : groups_) {
    sum.queried_tokens += group.cache().stats().queried_tokens;
    sum.reused_tokens += group.cache().stats().reused_tokens;
    sum.computed_tokens += group.cache().stats().computed_tokens;
    sum.evicted_pages += group.cache().stats().evicted_pages;
  }
  return sum;
}

}  // namespace shoal
