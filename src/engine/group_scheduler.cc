// SPDX-License-Identifier: Apache-2.0
#include "engine/group_scheduler.h"

#include <algorithm>

#include "base/error.h"
#include "base/whole.h"

namespace shoal {

// What is left of the group's share of the step being built.
struct GroupScheduler::Room {
  Batch& batch;
  ScheduledStep& step;
  std::vector<StepEntry>& entries;
  int64_t tokens;
  int64_t seats;
  int64_t& awaits;
  int64_t score_rows;
  bool may_start;
  bool ahead;
};

// --- requests

bool GroupScheduler::before(const Sequence& a, const Sequence& b) const {
  if (limits_.priorities && a.priority != b.priority) return a.priority > b.priority;
  return a.arrival_ < b.arrival_;
}

void GroupScheduler::enqueue(Sequence& sequence) {
  const auto place = std::upper_bound(waiting_.begin(), waiting_.end(), &sequence,
                                      [this](const Sequence* a, const Sequence* b) { return before(*a, *b); });
  waiting_.insert(place, &sequence);
}

void GroupScheduler::add(Sequence& sequence) {
  load_tokens_ += sequence.prompt_tokens + sequence.max_tokens;
  enqueue(sequence);
}

void GroupScheduler::release(Sequence& sequence) {
  if (sequence.running_) {
    const int64_t known = std::min(sequence.scheduled_, std::ssize(sequence.tokens));
    const int64_t whole = limits_.generated_roles ? std::min(known, sequence.prompt_tokens) : known;
    cache_.publish(sequence.kv_, sequence.tokens, whole);
    CHECK_EQ(std::erase(running_, &sequence), 1u);
  } else {
    CHECK_EQ(std::erase(waiting_, &sequence), 1u);
  }
  sequence.running_ = false;
  cache_.end(sequence.kv_);
  load_tokens_ -= sequence.prompt_tokens + sequence.max_tokens;
}

// --- what a sequence can do

// All that is known of it is in the cache, but for the last token.
bool GroupScheduler::generating(const Sequence& sequence) {
  const int64_t known = std::ssize(sequence.tokens) + sequence.expected_;
  return sequence.scheduled_ >= std::max(sequence.prompt_tokens, known - 1);
}

bool GroupScheduler::ready(const Sequence& sequence, bool ahead) {
  const int64_t known = std::ssize(sequence.tokens) + sequence.expected_;
  return sequence.expected_ <= (ahead ? 1 : 0) && generating(sequence) &&
         sequence.scheduled_ < std::min(known, sequence.cache_tokens());
}

// A preempted sequence waits for the tokens that were still being sampled.
bool GroupScheduler::startable(const Sequence& sequence) { return sequence.expected_ == 0; }

bool GroupScheduler::has_prompts() const {
  return !running_prompts().empty() || (!waiting_.empty() && startable(*waiting_.front()));
}

bool GroupScheduler::has_generation(bool ahead) const {
  return std::any_of(running_.begin(), running_.end(), [&](const Sequence* s) { return ready(*s, ahead); });
}

std::vector<Sequence*> GroupScheduler::running_prompts() const {
  std::vector<Sequence*> prompts;
  for (Sequence* sequence : running_)
    if (!generating(*sequence)) prompts.push_back(sequence);
  std::sort(prompts.begin(), prompts.end(), [this](const Sequence* a, const Sequence* b) { return before(*a, *b); });
  return prompts;
}

// --- a step

void GroupScheduler::plan(const PlanRules& rules, ScheduledStep& step) {
  ++plans_;
  Room room{.batch = step.plan.groups[rules.group],
            .step = step,
            .entries = step.entries[rules.group],
            .tokens = limits_.max_num_tokens,
            .seats = limits_.max_batch_size,
            .awaits = step.awaits[rules.group],
            .score_rows = limits_.max_score_rows,
            .may_start = limits_.capacity != CapacityPolicy::kStaticBatch || running_.empty(),
            .ahead = rules.ahead};
  room.batch.kv.resize(cache_.pools());
  const bool prompts_first = rules.prompts && prompts_first_;
  if (prompts_first) schedule_prompts(room);
  schedule_generated(room);
  if (rules.prompts && !prompts_first) schedule_prompts(room);
  if (prompts_first) prompts_first_ = false;
  // Whoever was served goes to the back; both parts keep their order.
  std::stable_partition(running_.begin(), running_.end(), [&](const Sequence* s) { return s->planned_ != plans_; });
  publish(room);
}

void GroupScheduler::schedule_generated(Room& room) {
  // Spread over the steps in flight, so that stages overlap.
  const int64_t share =
      ceil_div(std::count_if(running_.begin(), running_.end(), [](const Sequence* s) { return generating(*s); }),
               limits_.pipeline);
  int64_t taken = 0;
  const std::vector<Sequence*> running = running_;  // preemption changes it
  for (Sequence* sequence : running) {
    if (!sequence->running_ || !ready(*sequence, room.ahead) || sequence->planned_ == plans_) continue;
    if (taken == share || room.seats == 0 || room.tokens == 0) break;
    if (!find_pages(*sequence, 1)) continue;
    take(*sequence, 1, room);
    ++taken;
  }
}

void GroupScheduler::schedule_prompts(Room& room) {
  const std::vector<Sequence*> prompts = running_prompts();
  const int64_t places = std::max<int64_t>(0, limits_.most_running() - running());
  const int64_t candidates = std::ssize(prompts) + std::min<int64_t>(places, std::ssize(waiting_));
  const int64_t share = ceil_div(candidates, limits_.pipeline);
  int64_t most = limits_.max_num_tokens;
  if (limits_.mix_chunks && limits_.chunks != ChunkPolicy::kFirstComeFirstServed && share > 0) {
    const int64_t unit = cache_.tokens_per_block();
    const bool equal = limits_.chunks == ChunkPolicy::kEqualProgress;
    most = std::min(most, equal ? std::max(unit, room.tokens / share / unit * unit) : unit);
  }
  int64_t taken = 0;
  for (Sequence* sequence : prompts) {
    if (!sequence->running_) continue;  // preempted for one before it
    if (taken == share) return;
    const int64_t rows = chunk(*sequence, sequence->scheduled_, room, most);
    if (rows == 0) {
      prompts_first_ = true;
      return;
    }
    if (!find_pages(*sequence, rows)) continue;
    take(*sequence, rows, room);
    ++taken;
  }
  if (!room.may_start) return;
  while (taken < share && running() < limits_.most_running() && !waiting_.empty() && start_next(room, most)) ++taken;
}

int64_t GroupScheduler::reusable_tokens(const Sequence& sequence) const {
  if (sequence.all_logits) return sequence.logits_from_;
  const int64_t known = std::ssize(sequence.tokens) - 1;  // the last one's logits are wanted
  return limits_.generated_roles ? std::min(known, sequence.prompt_tokens) : known;
}

// Starts the first in the queue and takes its first rows; false if that is not possible now.
bool GroupScheduler::start_next(Room& room, int64_t most) {
  Sequence& sequence = *waiting_.front();
  if (!startable(sequence)) return false;
  const std::span<const int32_t> tokens = sequence.tokens;
  const int64_t reusable = reusable_tokens(sequence);
  if (chunk(sequence, cache_.reusable(tokens.first(reusable), sequence.cache_salt), room, most) == 0) {
    prompts_first_ = true;
    return false;
  }
  std::vector<std::vector<PageCopy>> copies;
  const std::optional<int64_t> reused = cache_.start(sequence.kv_,
                                                     {.tokens = tokens,
                                                      .salt = sequence.cache_salt,
                                                      .reusable = reusable,
                                                      .length = sequence.cache_tokens(),
                                                      .rows = limits_.max_num_tokens,
                                                      .guarantee = limits_.capacity != CapacityPolicy::kMaxUtilization},
                                                     copies);
  if (!reused) return false;
  const int64_t rows = chunk(sequence, *reused, room, most);
  if (rows == 0 || !cache_.reserve(sequence.kv_, *reused, *reused + rows)) {
    cache_.end(sequence.kv_);
    return false;
  }
  for (int pool = 0; pool < cache_.pools(); ++pool) {
    std::vector<PageCopy>& all = room.batch.kv[pool].copies;
    all.insert(all.end(), copies[pool].begin(), copies[pool].end());
  }
  sequence.scheduled_ = *reused;
  sequence.reused_tokens_ = *reused;
  sequence.running_ = true;
  waiting_.erase(waiting_.begin());
  running_.push_back(&sequence);
  take(sequence, rows, room);
  return true;
}

// Rows from `first` on that this step takes; 0 if there is no room for a sensible piece. A piece is what an empty step could take, or,
// with mix_chunks, what is left of this one, up to the end of a page where that is not the prompt's.
int64_t GroupScheduler::chunk(const Sequence& sequence, int64_t first, const Room& room, int64_t most) const {
  if (room.seats == 0) return 0;
  int64_t available = room.tokens;
  if (sequence.all_logits) {
    most = std::min(most, limits_.max_score_rows);
    available = std::min(available, room.score_rows);
  }
  const int64_t piece = std::min(std::ssize(sequence.tokens) - first, most);
  if (piece <= available) return piece;
  if (!limits_.mix_chunks) return 0;
  const int64_t block = cache_.tokens_per_block();
  return std::max<int64_t>(0, (first + available) / block * block - first);
}

bool GroupScheduler::find_pages(Sequence& sequence, int64_t rows) {
  while (!cache_.reserve(sequence.kv_, sequence.scheduled_, sequence.scheduled_ + rows)) {
    CHECK(limits_.capacity == CapacityPolicy::kMaxUtilization);
    if (!preempt_below(sequence)) return false;
  }
  return true;
}

// The lowest-ranked running sequence that the step does not serve gives its pages back, if it is below this one.
bool GroupScheduler::preempt_below(const Sequence& sequence) {
  Sequence* lowest = nullptr;
  for (Sequence* other : running_) {
    const bool ending = other->scheduled_ >= other->cache_tokens();  // gives them back by itself
    if (other->planned_ == plans_ || ending || !before(sequence, *other)) continue;
    if (!lowest || before(*lowest, *other)) lowest = other;
  }
  if (!lowest) return false;
  cache_.end(lowest->kv_);
  lowest->logits_from_ = std::max(lowest->logits_from_, lowest->scheduled_);
  lowest->scheduled_ = 0;
  lowest->running_ = false;
  std::erase(running_, lowest);
  enqueue(*lowest);
  ++preemptions_;
  return true;
}

// --- rows

void GroupScheduler::take(Sequence& sequence, int64_t rows, Room& room) {
  Batch& batch = room.batch;
  const int64_t first = sequence.scheduled_;
  const int64_t prompt_rows = std::clamp<int64_t>(sequence.prompt_tokens - first, 0, rows);
  StepEntry entry{.sequence = &sequence,
                  .first_row = std::ssize(batch.tokens),
                  .first_position = first,
                  .rows = rows,
                  .logits_begin = std::ssize(batch.logit_rows)};
  for (int64_t i = 0; i < rows; ++i) add_row(sequence, first + i, entry, room);
  entry.logits_count = std::ssize(batch.logit_rows) - entry.logits_begin;
  const int64_t used = ceil_div(first + rows, cache_.tokens_per_block());
  for (int pool = 0; pool < cache_.pools(); ++pool) {
    const std::vector<int32_t>& pages = sequence.kv_.pages(pool);
    batch.kv[pool].spans.push_back({.row_begin = entry.first_row,
                                    .rows = rows,
                                    .context = first + rows,
                                    .prompt_rows = prompt_rows,
                                    .pages = std::vector<int32_t>(pages.begin(), pages.begin() + used)});
  }
  room.step.prompt_rows += prompt_rows;
  room.step.generated_rows += rows - prompt_rows;
  room.tokens -= rows;
  --room.seats;
  if (sequence.all_logits) room.score_rows -= rows;
  sequence.scheduled_ += rows;
  sequence.planned_ = plans_;
  ++sequence.in_flight_;
  room.entries.push_back(entry);
}

void GroupScheduler::add_row(Sequence& sequence, int64_t position, StepEntry& entry, Room& room) {
  Batch& batch = room.batch;
  const int64_t known = std::ssize(sequence.tokens) + sequence.expected_, block = cache_.tokens_per_block();
  const auto row = static_cast<int32_t>(batch.tokens.size());
  entry.awaits_token = position >= std::ssize(sequence.tokens);
  if (entry.awaits_token) room.awaits = std::max(room.awaits, sequence.sampled_by_);
  batch.tokens.push_back(entry.awaits_token ? kUnknownToken : sequence.tokens[position]);
  batch.positions.push_back(static_cast<int32_t>(position));
  for (int pool = 0; pool < cache_.pools(); ++pool) {
    const int64_t page = sequence.kv_.pages(pool)[position / block];
    batch.kv[pool].slots.push_back(static_cast<int32_t>(page * block + position % block));
  }
  if (sequence.all_logits) {
    if (position >= sequence.logits_from_) batch.logit_rows.push_back(row);
    return;
  }
  if (position + 1 != known) return;
  batch.logit_rows.push_back(row);
  entry.samples = true;
  ++sequence.expected_;
  sequence.sampled_by_ = room.step.plan.step;
}

// After the whole step is planned: no page that it uses may change hands before.
void GroupScheduler::publish(const Room& room) {
  for (const StepEntry& entry : room.entries) {
    Sequence& sequence = *entry.sequence;
    int64_t known = std::min(sequence.scheduled_, std::ssize(sequence.tokens));
    if (limits_.generated_roles) known = std::min(known, sequence.prompt_tokens);
    cache_.publish(sequence.kv_, sequence.tokens, known);
  }
}

}  // namespace shoal
