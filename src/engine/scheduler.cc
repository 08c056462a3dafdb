// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace shoal {
namespace {

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

// What is left of one group's share of the step being built.
struct Scheduler::Room {
  Batch& batch;
  ScheduledStep& step;
  std::vector<StepEntry>& entries;
  int64_t tokens;
  int64_t seats;
  int64_t score_rows;
};

Scheduler::Scheduler(const SchedulerLimits& limits) : limits_(limits) {
  CHECK(limits.groups >= 1 && limits.pipeline >= 1);
  CHECK(limits.max_batch_size >= 1 && limits.max_num_tokens >= 1 && limits.max_score_rows >= 1);
  groups_.reserve(limits.groups);  // tables point to their group's allocator
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
  const int64_t needed = ceil_divide(length - (max_tokens > 0 ? 1 : 0), limits.tokens_per_block);
  if (needed > limits.pages) {
    return fmt::format(
        "the prompt's {} tokens and max_tokens {} need {} KV pages of {} tokens, and there are {}; raise "
        "kv_cache_config.max_tokens or ask for less",
        prompt_tokens, max_tokens, needed, limits.tokens_per_block, limits.pages);
  }
  return {};
}

void Scheduler::add(Sequence& sequence) {
  CHECK(never_fits(limits_, sequence.prompt_tokens, sequence.max_tokens).empty());
  CHECK_EQ(sequence.prompt_tokens, static_cast<int64_t>(sequence.tokens.size()));
  const auto least = std::min_element(groups_.begin(), groups_.end(), [](const Group& a, const Group& b) {
    return std::pair(a.load_tokens, a.requests) < std::pair(b.load_tokens, b.requests);
  });
  sequence.arrival_ = arrivals_++;
  sequence.group_ = static_cast<int>(least - groups_.begin());
  least->load_tokens += sequence.prompt_tokens + sequence.max_tokens;
  ++least->requests;
  least->waiting.push_back(&sequence);
}

std::optional<ScheduledStep> Scheduler::next() {
  if (in_flight_ >= limits_.pipeline) return std::nullopt;
  ScheduledStep step;
  step.plan.groups.resize(limits_.groups);
  step.entries.resize(limits_.groups);
  for (int i = 0; i < limits_.groups; ++i) plan_group(i, step);
  if (step.prompt_rows + step.generated_rows == 0) return std::nullopt;
  step.plan.step = steps_++;
  ++in_flight_;
  return step;
}

void Scheduler::plan_group(int index, ScheduledStep& step) {
  Group& group = groups_[index];
  Room room{.batch = step.plan.groups[index],
            .step = step,
            .entries = step.entries[index],
            .tokens = limits_.max_num_tokens,
            .seats = limits_.max_batch_size,
            .score_rows = limits_.max_score_rows};
  if (group.prompts_first) {
    schedule_prompts(group, room);
    schedule_generated(group, room);
    group.prompts_first = false;
  } else {
    schedule_generated(group, room);
    schedule_prompts(group, room);
  }
  // Whoever was served goes to the back; both parts keep their order.
  std::stable_partition(group.running.begin(), group.running.end(), [&](const Sequence* sequence) {
    return std::none_of(room.entries.begin(), room.entries.end(),
                        [&](const StepEntry& entry) { return entry.sequence == sequence; });
  });
}

void Scheduler::schedule_generated(Group& group, Room& room) {
  const auto generating = [](const Sequence* s) { return s->scheduled_ >= s->prompt_tokens; };
  // Spread over the steps in flight, so that stages overlap.
  const int64_t share =
      ceil_divide(std::count_if(group.running.begin(), group.running.end(), generating), limits_.pipeline);
  int64_t taken = 0;
  for (Sequence* sequence : group.running) {
    if (!generating(sequence) || sequence->scheduled_ == static_cast<int64_t>(sequence->tokens.size())) continue;
    if (taken == share || room.seats == 0 || room.tokens == 0) break;
    take(*sequence, 1, room);
    ++taken;
  }
}

void Scheduler::schedule_prompts(Group& group, Room& room) {
  std::vector<Sequence*> prompts;
  for (Sequence* sequence : group.running)
    if (sequence->scheduled_ < sequence->prompt_tokens) prompts.push_back(sequence);
  std::sort(prompts.begin(), prompts.end(),
            [](const Sequence* a, const Sequence* b) { return a->arrival_ < b->arrival_; });
  const int64_t capacity = limits_.max_batch_size * limits_.pipeline;
  const int64_t places = std::max<int64_t>(0, capacity - static_cast<int64_t>(group.running.size()));
  const int64_t candidates =
      static_cast<int64_t>(prompts.size()) + std::min<int64_t>(places, std::ssize(group.waiting));
  const int64_t share = ceil_divide(candidates, limits_.pipeline);
  for (int64_t taken = 0; taken < share; ++taken) {
    const bool started = taken < std::ssize(prompts);
    Sequence* sequence = started ? prompts[taken] : group.waiting.front();
    const int64_t rows = chunk(*sequence, room);
    if (rows == 0) {
      group.prompts_first = true;
      return;
    }
    if (!started && !admit(group, *sequence)) return;
    take(*sequence, rows, room);
  }
}

bool Scheduler::admit(Group& group, Sequence& sequence) {
  if (!sequence.pages_.reserve(group.pages, sequence.cache_tokens())) return false;
  sequence.admitted_ = true;
  group.waiting.pop_front();
  group.running.push_back(&sequence);
  return true;
}

// Rows of the prompt that this step takes; 0 if there is no room for a sensible piece. A piece is what an empty step could take, or,
// with mix_chunks, what is left of this one, in whole pages where there is more than one.
int64_t Scheduler::chunk(const Sequence& sequence, const Room& room) const {
  if (room.seats == 0) return 0;
  const int64_t left = sequence.prompt_tokens - sequence.scheduled_;
  int64_t most = limits_.max_num_tokens;
  int64_t available = room.tokens;
  if (sequence.all_logits) {
    most = std::min(most, limits_.max_score_rows);
    available = std::min(available, room.score_rows);
  }
  const int64_t piece = std::min(left, most);
  if (piece <= available) return piece;
  if (!limits_.mix_chunks) return 0;
  return available / limits_.tokens_per_block * limits_.tokens_per_block;
}

void Scheduler::take(Sequence& sequence, int64_t rows, Room& room) {
  Batch& batch = room.batch;
  const int64_t first = sequence.scheduled_;
  const int64_t first_row = std::ssize(batch.tokens);
  const int64_t prompt_rows = std::clamp<int64_t>(sequence.prompt_tokens - first, 0, rows);
  StepEntry entry{
      .sequence = &sequence, .first_position = first, .rows = rows, .logits_begin = std::ssize(batch.logit_rows)};
  for (int64_t i = 0; i < rows; ++i) {
    batch.tokens.push_back(sequence.tokens[first + i]);
    batch.positions.push_back(static_cast<int32_t>(first + i));
    batch.kv_slots.push_back(sequence.pages_.slot(first + i));
    const bool last = first + i + 1 == static_cast<int64_t>(sequence.tokens.size());
    if (sequence.all_logits || last) batch.logit_rows.push_back(static_cast<int32_t>(first_row + i));
  }
  entry.logits_count = std::ssize(batch.logit_rows) - entry.logits_begin;
  const std::vector<int32_t>& pages = sequence.pages_.pages();
  const int64_t used = ceil_divide(first + rows, limits_.tokens_per_block);
  batch.spans.push_back({.row_begin = first_row,
                         .rows = rows,
                         .context = first + rows,
                         .prompt_rows = prompt_rows,
                         .pages = std::vector<int32_t>(pages.begin(), pages.begin() + used)});
  room.entries.push_back(entry);
  room.step.prompt_rows += prompt_rows;
  room.step.generated_rows += rows - prompt_rows;
  room.tokens -= rows;
  --room.seats;
  if (sequence.all_logits) room.score_rows -= rows;
  sequence.scheduled_ += rows;
  ++sequence.in_flight_;
}

void Scheduler::complete(const ScheduledStep& step) {
  CHECK_GT(in_flight_, 0);
  --in_flight_;
  for (const std::vector<StepEntry>& entries : step.entries)
    for (const StepEntry& entry : entries) --entry.sequence->in_flight_;
}

void Scheduler::release(Sequence& sequence) {
  CHECK_EQ(sequence.in_flight_, 0);
  Group& group = groups_[sequence.group_];
  if (sequence.admitted_) {
    CHECK_EQ(std::erase(group.running, &sequence), 1u);
  } else {
    CHECK_EQ(std::erase(group.waiting, &sequence), 1u);
  }
  sequence.pages_.clear();
  group.load_tokens -= sequence.prompt_tokens + sequence.max_tokens;
  --group.requests;
}

int64_t Scheduler::used_pages() const {
  int64_t sum = 0;
  for (const Group& group : groups_) sum += group.pages.used_pages();
  return sum;
}

int64_t Scheduler::load_tokens() const {
  int64_t sum = 0;
  for (const Group& group : groups_) sum += group.load_tokens;
  return sum;
}

int64_t Scheduler::running() const {
  int64_t sum = 0;
  for (const Group& group : groups_) sum += std::ssize(group.running);
  return sum;
}

int64_t Scheduler::waiting() const {
  int64_t sum = 0;
  for (const Group& group : groups_) sum += std::ssize(group.waiting);
  return sum;
}

}  // namespace shoal
