// SPDX-License-Identifier: Apache-2.0
#include "engine/replica.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace shoal {
namespace {

LiveRequest& request_of(const StepEntry& entry) { return *static_cast<LiveRequest*>(entry.sequence); }

int64_t nanoseconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

}  // namespace

Replica::Replica(RankWorld& world, int index, const SchedulerLimits& limits, std::shared_ptr<ExpertBalancer> experts)
    : world_(world),
      index_(index),
      limits_(limits),
      experts_(std::move(experts)),
      scheduler_(limits),
      sampled_steps_(limits.groups, -1),
      thread_([this] { run(); }) {}

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
    request->result.times.end_seconds = request->age_seconds();
    request->callbacks.on_finish(std::move(request->result));
  }
}

void Replica::cancel(uint64_t id) {
  const std::lock_guard lock(mutex_);
  cancels_.push_back(id);
  event_.notify_one();
}

void Replica::clear_cache() {
  const std::lock_guard lock(mutex_);
  clearing_ = true;
  event_.notify_one();
}

void Replica::fail(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = reason;
  event_.notify_one();
  tokens_.notify_all();
}

StepStats Replica::stats() const {
  constexpr double kNanosecond = 1e-9;
  const std::lock_guard lock(mutex_);
  StepStats stats = stats_;
  stats.planning_seconds = static_cast<double>(planning_ns_) * kNanosecond;
  stats.output_seconds = static_cast<double>(output_ns_) * kNanosecond;
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

void Replica::fill_tokens(StepTask& task, int rank, int group) {
  const int64_t awaited = task.step.awaits[group];
  std::unique_lock lock(mutex_);
  const bool in_time = tokens_.wait_for(lock, std::chrono::duration<double>(world_.timeout_s()),
                                        [&] { return failure_ || sampled_steps_[group] >= awaited; });
  if (failure_) throw CommError(*failure_);
  if (!in_time) throw CommError(late_message(rank, group, awaited));
  std::vector<int32_t>& tokens = task.step.plan.groups[group].tokens;
  for (const StepEntry& entry : task.step.entries[group]) {
    int32_t& token = tokens[entry.first_row];
    // What is no token ends its request, and this row with it.
    if (entry.awaits_token && token == kUnknownToken)
      token = std::max(0, request_of(entry).sampled_at(entry.first_position).token);
  }
}

std::string Replica::late_message(int rank, int group, int64_t step) const {
  const Mesh& mesh = world_.mesh();
  int leader = 0;
  for (int i = mesh.world_size() - 1; i >= 0; --i) {
    const Coordinates at = mesh.at(i);
    if (at.dp == index_ && at.pp == mesh.sizes().pipeline - 1 && at.attn_dp == group) leader = i;
  }
  return fmt::format(
      "{} waited {:.3g} s for the tokens that {} samples in step {}; raise comm_timeout_s if it is only slow",
      world_.rank_name(rank), world_.timeout_s(), world_.rank_name(leader), step);
}

void Replica::on_logits(const StepTask& task, int group, std::span<const float> logits) {
  const Clock::time_point begin = Clock::now();
  const size_t rows = task.step.plan.groups[group].logit_rows.size();
  const size_t vocab = logits.size() / rows;
  for (const StepEntry& entry : task.step.entries[group]) {
    if (entry.logits_count == 0) continue;
    LiveRequest& request = request_of(entry);
    const auto values = logits.subspan(entry.logits_begin * vocab, entry.logits_count * vocab);
    if (request.sampler) {
      request.sampled_at(entry.first_position + entry.rows) = request.sampler->sample(values);
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
  const std::lock_guard lock(mutex_);
  sampled_steps_[group] = task.step.plan.step;
  tokens_.notify_all();
}

void Replica::on_done(const StepTask& task, int) {
  const std::lock_guard lock(mutex_);
  ++done_groups_[task.step.plan.step];
  event_.notify_one();  // under the lock: after it the replica may be gone
}

// --- on the replica's thread

void Replica::run() {
  while (take_events()) {
    // One at a time, so that what is decided never depends on how many are done by now.
    while (oldest_is_done()) advance();
    start_steps();
    finish_cancelled();
    note_state();
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
    return failure_ || (stopping_ && in_flight_.empty()) || !arrivals_.empty() || !cancels_.empty() || clearing_ ||
           oldest_done();
  });
  if (failure_ || (stopping_ && in_flight_.empty())) return false;
  if (std::exchange(clearing_, false)) scheduler_.clear_cache();
  for (auto& request : std::exchange(arrivals_, {})) {
    scheduler_.add(*request);
    requests_.emplace(request->id, std::move(request));
  }
  for (const uint64_t id : std::exchange(cancels_, {})) {
    const auto found = requests_.find(id);
    if (found == requests_.end()) continue;  // has ended meanwhile
    if (found->second->released) continue;
    release(*found->second);
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
  const Clock::time_point begin = Clock::now();
  while (std::optional<ScheduledStep> step = scheduler_.next()) launch(std::move(*step));
  planning_ns_ += nanoseconds(Clock::now() - begin);
}

void Replica::launch(ScheduledStep step) {
  const auto task = std::make_shared<StepTask>();
  for (const auto& entries : step.entries)
    for (const StepEntry& entry : entries) task->requests.push_back(requests_.at(request_of(entry).id));
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
  for (const auto& entries : task->step.entries)
    for (const StepEntry& entry : entries) note_start(request_of(entry));
}

void Replica::note_start(LiveRequest& request) {
  if (std::exchange(request.started, true)) return;  // also when it starts again after it gave way
  request.result.times.queue_seconds = request.age_seconds();
  request.result.cached_tokens = request.reused_tokens();
  if (request.callbacks.on_start) request.callbacks.on_start();
}

// The oldest step is done. What follows it is planned before anybody is told of its tokens.
void Replica::advance() {
  const InFlight done = std::move(in_flight_.front());
  in_flight_.pop_front();
  const Clock::time_point begin = Clock::now();
  scheduler_.complete(done.task->step);
  count(done);
  const std::vector<Output> outputs = settle(*done.task);
  planning_ns_ += nanoseconds(Clock::now() - begin);
  start_steps();
  const Clock::time_point planned = Clock::now();
  for (const Output& output : outputs) tell(output);
  output_ns_ += nanoseconds(Clock::now() - planned);
}

std::vector<Replica::Output> Replica::settle(const StepTask& task) {
  std::vector<Output> outputs;
  for (const auto& entries : task.step.entries)
    for (const StepEntry& entry : entries)
      if (std::optional<Output> output = settle(request_of(entry), entry)) outputs.push_back(std::move(*output));
  return outputs;
}

void Replica::count(const InFlight& done) {
  const ScheduledStep& step = done.task->step;
  int64_t dropped = 0;  // rows of requests that had ended
  for (const auto& entries : step.entries)
    dropped += std::count_if(entries.begin(), entries.end(), [](const StepEntry& e) { return request_of(e).released; });
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
    stats_.generated_tokens += step.generated_rows - dropped;
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

std::optional<Replica::Output> Replica::settle(LiveRequest& request, const StepEntry& entry) {
  if (request.released) return std::nullopt;
  const int64_t end = entry.first_position + entry.rows;
  if (request.sampler) {
    if (!entry.samples) return std::nullopt;
    return accept(request, end);
  }
  if (end < request.prompt_tokens) return std::nullopt;
  release(request);
  return Output{.request = &request, .token = {}, .ends = FinishReason::kLength};
}

// What follows from the token's number alone.
Replica::Output Replica::accept(LiveRequest& request, int64_t position) {
  Output output{.request = &request, .token = std::move(request.sampled_at(position))};
  const int32_t token = output.token.token;
  if (request.result.token_ids.empty()) request.result.times.first_token_seconds = request.age_seconds();
  if (token < 0) {
    output.ends = FinishReason::kError;
  } else {
    request.tokens.push_back(token);
    request.result.token_ids.push_back(token);
    if (std::find(request.stop_ids.begin(), request.stop_ids.end(), token) != request.stop_ids.end() ||
        output.token.ends_text) {
      output.ends = FinishReason::kStop;
    } else if (std::ssize(request.tokens) == request.prompt_tokens + request.max_tokens) {
      output.ends = FinishReason::kLength;
    }
  }
  if (output.ends != FinishReason::kNone) release(request);
  return output;
}

void Replica::tell(const Output& output) {
  LiveRequest& request = *output.request;
  if (!request.sampler) return tell_scored(request);
  if (output.token.token < 0) {
    finish(request, FinishReason::kError, sampling_failure(output.token.token));
    return;
  }
  OutputDelta delta{.token = output.token, .text = {}, .finish_reason = output.ends};
  request.result.logprobs.push_back(output.token);
  const bool stop_token = output.ends == FinishReason::kStop && !output.token.ends_text;
  if (!stop_token) delta.text = request.text->push(output.token.token);
  if (request.text->stopped()) delta.finish_reason = FinishReason::kStop;
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

void Replica::tell_scored(LiveRequest& request) {
  std::string error;
  {
    const std::lock_guard lock(mutex_);
    error = request.score_error;
  }
  finish(request, error.empty() ? FinishReason::kLength : FinishReason::kError, error);
}

// In no further step.
void Replica::release(LiveRequest& request) {
  scheduler_.release(request);
  request.released = true;
}

void Replica::finish(LiveRequest& request, FinishReason reason, const std::string& error) {
  const auto node = requests_.extract(request.id);  // keeps it alive to the end of this function
  if (!request.released) release(request);
  load_tokens_ -= request.prompt_tokens + request.max_tokens;
  note_state();
  request.result.finish_reason = reason;
  request.result.error = error;
  request.result.times.end_seconds = request.age_seconds();
  request.callbacks.on_finish(std::move(request.result));
}

void Replica::finish_cancelled() {
  std::erase_if(cancelling_, [&](uint64_t id) {
    const auto found = requests_.find(id);
    if (found == requests_.end()) return true;
    // Steps in flight may still hand out logits; a sampled token is nobody's.
    if (found->second->callbacks.on_logits && found->second->in_flight() > 0) return false;
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
