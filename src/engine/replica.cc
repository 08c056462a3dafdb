// SPDX-License-Identifier: Apache-2.0
#include "engine/replica.h"

#include <algorithm>
#include <utility>

namespace shoal {
namespace {

LiveRequest& request_of(const StepEntry& entry) { return *static_cast<LiveRequest*>(entry.sequence); }

int64_t nanoseconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

}  // namespace

Replica::Replica(RankWorld& world, int index, const SchedulerLimits& limits, std::shared_ptr<ExpertBalancer> experts)
    : world_(world), index_(index), limits_(limits), experts_(std::move(experts)), scheduler_(limits), thread_([this] {
        run();
      }) {}

Replica::~Replica() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    event_.notify_one();
  }
  thread_.join();
}

void Replica::submit(std::vector<std::shared_ptr<LiveRequest>> requests) {
  std::optional<std::string> failure;
  {
    const std::lock_guard lock(mutex_);
    failure = failure_;
    if (!failure) {
      for (const auto& request : requests) load_tokens_ += request->prompt_tokens + request->max_tokens;
      arrivals_.insert(arrivals_.end(), requests.begin(), requests.end());
      event_.notify_one();
    }
  }
  if (!failure) return;
  for (const auto& request : requests) {
    request->result.finish_reason = FinishReason::kError;
    request->result.error = *failure;
    request->callbacks.on_finish(std::move(request->result));
  }
}

void Replica::cancel(uint64_t id) {
  const std::lock_guard lock(mutex_);
  cancels_.push_back(id);
  event_.notify_one();
}

void Replica::fail(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = reason;
  event_.notify_one();
}

StepStats Replica::stats() const {
  constexpr double kNanosecond = 1e-9;
  const std::lock_guard lock(mutex_);
  StepStats stats = stats_;
  stats.planning_seconds = static_cast<double>(planning_ns_) * kNanosecond;
  stats.sampling_seconds = static_cast<double>(sampling_ns_) * kNanosecond;
  return stats;
}

CacheUse Replica::cache_use() const {
  const std::lock_guard lock(mutex_);
  return cache_use_;
}

RequestCounts Replica::request_counts() const {
  const std::lock_guard lock(mutex_);
  return request_counts_;
}

// --- on the ranks' threads

void Replica::on_logits(const StepTask& task, int group, std::span<const float> logits) {
  const Clock::time_point begin = Clock::now();
  const size_t rows = task.step.plan.groups[group].logit_rows.size();
  const size_t vocab = logits.size() / rows;
  for (const StepEntry& entry : task.step.entries[group]) {
    if (entry.logits_count == 0) continue;
    LiveRequest& request = request_of(entry);
    const auto values = logits.subspan(entry.logits_begin * vocab, entry.logits_count * vocab);
    if (request.sampler) {
      request.sampled = request.sampler->sample(values);
      continue;
    }
    try {
      request.callbacks.on_logits({.first = entry.first_position + entry.rows - entry.logits_count,
                                   .rows = entry.logits_count,
                                   .values = values});
    } catch (const std::exception& error) {
      const std::lock_guard lock(mutex_);
      request.score_error = error.what();
    }
  }
  sampling_ns_ += nanoseconds(Clock::now() - begin);
}

void Replica::on_done(const StepTask& task, int) {
  const std::lock_guard lock(mutex_);
  ++done_groups_[task.step.plan.step];
  event_.notify_one();  // under the lock: after it the replica may be gone
}

// --- on the replica's thread

void Replica::run() {
  while (take_events()) {
    const Clock::time_point begin = Clock::now();
    while (oldest_is_done()) {  // one at a time, so that what is decided never depends on how many are done by now
      complete_oldest();
      finish_cancelled();
      start_steps();
    }
    finish_cancelled();
    start_steps();
    note_state();
    planning_ns_ += nanoseconds(Clock::now() - begin);
  }
  fail_all();
}

// Waits for something to do. False when it is time to end.
bool Replica::take_events() {
  std::unique_lock lock(mutex_);
  const auto oldest_done = [&] {
    return !in_flight_.empty() && done_groups_[in_flight_.front().task->step.plan.step] == limits_.groups;
  };
  event_.wait(lock, [&] {
    return failure_ || (stopping_ && in_flight_.empty()) || !arrivals_.empty() || !cancels_.empty() || oldest_done();
  });
  if (failure_ || (stopping_ && in_flight_.empty())) return false;
  for (auto& request : std::exchange(arrivals_, {})) {
    scheduler_.add(*request);
    requests_.emplace(request->id, std::move(request));
  }
  for (const uint64_t id : std::exchange(cancels_, {})) {
    const auto found = requests_.find(id);
    if (found == requests_.end()) continue;  // has ended meanwhile
    if (found->second->cancelled) continue;
    found->second->cancelled = true;
    scheduler_.release(
        *found->second);  // in no further step; told when those in flight, which may still hand out logits, are done
    cancelling_.push_back(id);
  }
  return true;
}

bool Replica::oldest_is_done() {
  if (in_flight_.empty()) return false;
  const int64_t step = in_flight_.front().task->step.plan.step;
  const std::lock_guard lock(mutex_);
  const auto found = done_groups_.find(step);
  if (failure_ || found == done_groups_.end() || found->second < limits_.groups) return false;
  done_groups_.erase(found);
  return true;
}

void Replica::start_steps() {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || failure_) return;
  }
  while (std::optional<ScheduledStep> step = scheduler_.next()) launch(std::move(*step));
}

void Replica::launch(ScheduledStep step) {
  const auto task = std::make_shared<StepTask>();
  for (const auto& entries : step.entries)
    for (const StepEntry& entry : entries) {
      LiveRequest& request = request_of(entry);
      task->requests.push_back(requests_.at(request.id));
      if (!std::exchange(request.started, true) && request.callbacks.on_start) request.callbacks.on_start();
    }
  task->step = std::move(step);
  task->sink = this;
  const int ranks = world_.mesh().replica_size();
  task->experts = experts_;
  task->first_rank = index_ * ranks;
  if (experts_) task->step.plan.experts = experts_->next_step(task->step.plan.step);
  const auto ranks_left = std::make_shared<std::latch>(ranks);
  const Clock::time_point now = Clock::now();
  if (in_flight_.empty()) busy_since_ = now;
  task->busy_since = busy_since_;
  in_flight_.push_back({.task = task, .ranks_left = ranks_left, .launched = now});
  for (int rank = index_ * ranks; rank < (index_ + 1) * ranks; ++rank)
    world_.post(rank, [task, ticket = count_down_at_end(ranks_left)](RankState& state) { run_step(state, *task); });
}

void Replica::complete_oldest() {
  const InFlight done = std::move(in_flight_.front());
  in_flight_.pop_front();
  count(done);
  scheduler_.complete(done.task->step);
  for (const auto& entries : done.task->step.entries)
    for (const StepEntry& entry : entries) settle(request_of(entry), entry);
}

void Replica::count(const InFlight& done) {
  const ScheduledStep& step = done.task->step;
  const Clock::time_point now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - std::max(done.launched, last_completion_)).count();
  last_completion_ = now;
  const std::lock_guard lock(mutex_);
  ++stats_.steps;
  stats_.prompt_tokens += step.prompt_rows;
  const int64_t tokens = step.prompt_rows + step.generated_rows;
  stats_.tokens += tokens;
  ++stats_.by_tokens[std::ranges::lower_bound(kStepTokenBounds, tokens) - kStepTokenBounds.begin()];
  if (step.prompt_rows > 0) {
    stats_.prompt_seconds += seconds;
  } else {
    stats_.generated_tokens += step.generated_rows;
    stats_.generation_seconds += seconds;
  }
}

void Replica::note_state() {
  const CacheUse use{.total_pages = scheduler_.total_pages(),
                     .used_pages = scheduler_.used_pages(),
                     .cached_pages = scheduler_.cached_pages(),
                     .preemptions = scheduler_.preemptions(),
                     .stats = scheduler_.cache_stats()};
  const RequestCounts counts{.running = scheduler_.running(), .waiting = scheduler_.waiting()};
  const std::lock_guard lock(mutex_);
  cache_use_ = use;
  request_counts_ = counts;
}

void Replica::settle(LiveRequest& request, const StepEntry& entry) {
  if (request.cancelled) return;
  if (request.sampler) {
    if (entry.logits_count > 0) accept(request);
    return;
  }
  if (entry.first_position + entry.rows < request.prompt_tokens) return;
  std::string error;
  {
    const std::lock_guard lock(mutex_);
    error = request.score_error;
  }
  finish(request, error.empty() ? FinishReason::kLength : FinishReason::kError, error);
}

void Replica::accept(LiveRequest& request) {
  const TokenLogprob& sampled = request.sampled;
  if (sampled.token < 0) {
    finish(request, FinishReason::kError, "the model's logits are not finite numbers; are its weights damaged?");
    return;
  }
  request.tokens.push_back(sampled.token);
  request.result.token_ids.push_back(sampled.token);
  request.result.logprobs.push_back(sampled);
  OutputDelta delta{.token = sampled, .text = {}};
  if (std::find(request.stop_ids.begin(), request.stop_ids.end(), sampled.token) != request.stop_ids.end()) {
    delta.finish_reason = FinishReason::kStop;
  } else {
    delta.text = request.text->push(sampled.token);
    if (request.text->stopped()) {
      delta.finish_reason = FinishReason::kStop;
    } else if (static_cast<int64_t>(request.tokens.size()) == request.prompt_tokens + request.max_tokens) {
      delta.finish_reason = FinishReason::kLength;
    }
  }
  if (delta.finish_reason != FinishReason::kNone) delta.text += request.text->finish();
  request.result.text += delta.text;
  try {
    if (request.callbacks.on_output) request.callbacks.on_output(delta);
  } catch (const std::exception& error) {
    finish(request, FinishReason::kError, error.what());
    return;
  }
  if (delta.finish_reason != FinishReason::kNone) finish(request, delta.finish_reason);
}

void Replica::finish(LiveRequest& request, FinishReason reason, const std::string& error) {
  const auto node = requests_.extract(request.id);  // keeps it alive to the end of this function
  if (!request.cancelled) scheduler_.release(request);
  load_tokens_ -= request.prompt_tokens + request.max_tokens;
  note_state();
  request.result.finish_reason = reason;
  request.result.error = error;
  request.result.cached_tokens = std::min(request.reused_tokens(), request.prompt_tokens);
  request.callbacks.on_finish(std::move(request.result));
}

void Replica::finish_cancelled() {
  std::erase_if(cancelling_, [&](uint64_t id) {
    const auto found = requests_.find(id);
    if (found == requests_.end()) return true;
    if (found->second->in_flight() > 0) return false;
    finish(*found->second, FinishReason::kCancelled);
    return true;
  });
}

// The end: by failure, with its reason, or because the engine is going away.
void Replica::fail_all() {
  std::string reason;
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = "the engine was stopped";
    reason = *failure_;
    for (auto& request : std::exchange(arrivals_, {})) {
      scheduler_.add(*request);
      requests_.emplace(request->id, std::move(request));
    }
  }
  // Ranks that still compute may hand logits to a callback; it must not be gone by then.
  while (!in_flight_.empty()) {
    in_flight_.front().ranks_left->wait();
    scheduler_.complete(in_flight_.front().task->step);
    in_flight_.pop_front();
  }
  while (!requests_.empty()) finish(*requests_.begin()->second, FinishReason::kError, reason);
}

}  // namespace shoal
