// SPDX-License-Identifier: Apache-2.0
// The scheduler's promises, checked on every step of random workloads, and a few exact schedules.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <set>

namespace shoal {
namespace {

struct Spec {
  int64_t prompt = 1;
  int64_t max_tokens = 1;  // 0: scored
  int64_t arrives = 0;     // after so many completed steps
  int64_t ends = 1000;  // after so many tokens at the latest, as by an end-of-text token: the scheduler does not know
};

SchedulerLimits small_limits() {
  return {.groups = 1,
          .pipeline = 1,
          .max_batch_size = 4,
          .max_num_tokens = 16,
          .max_seq_len = 64,
          .cache = {.tokens_per_block = 4, .pools = {{.kind = {}, .pages = 16}}, .reuse = false}};
}

// Runs requests to their end the way a replica does, with `pipeline` steps in flight, checking every step.
class Simulation {
 public:
  Simulation(const SchedulerLimits& limits, std::vector<Spec> specs)
      : limits_(limits), specs_(std::move(specs)), scheduler_(limits) {
    for (const Spec& spec : specs_) {
      auto sequence = std::make_unique<Sequence>();
      sequence->tokens.assign(spec.prompt, 7);
      sequence->prompt_tokens = spec.prompt;
      sequence->max_tokens = spec.max_tokens;
      sequence->all_logits = spec.max_tokens == 0;
      index_[sequence.get()] = sequences_.size();
      sequences_.push_back(std::move(sequence));
    }
    next_position_.resize(specs_.size());
    scored_.resize(specs_.size());
    groups_.resize(specs_.size(), -1);
  }

  // The steps that were run; `log` gets "request:first+rows" words, group by group.
  int64_t run(std::vector<std::string>* log = nullptr) {
    const int64_t most = 2000;
    int64_t completed = 0;
    arrive(0);
    while (finished_ < specs_.size() || !in_flight_.empty()) {
      RC_ASSERT(completed < most);
      while (auto step = scheduler_.next()) {
        check(*step);
        if (log) log->push_back(words(*step));
        in_flight_.push_back(std::move(*step));
        RC_ASSERT(std::ssize(in_flight_) <= limits_.pipeline + limits_.overlap);
      }
      if (!in_flight_.empty()) complete();
      arrive(++completed);
    }
    RC_ASSERT(in_flight_.empty());
    RC_ASSERT(scheduler_.used_pages() == 0);
    RC_ASSERT(scheduler_.load_tokens() == 0);
    RC_ASSERT(scheduler_.running() + scheduler_.waiting() == 0);
    return completed;
  }
  int64_t longest_wait() const { return longest_wait_; }

 private:
  void arrive(int64_t now) {
    for (size_t i = 0; i < specs_.size(); ++i)
      if (specs_[i].arrives == now) scheduler_.add(*sequences_[i]);
  }

  void check(const ScheduledStep& step) {
    int64_t rows = 0;
    for (int group = 0; group < limits_.groups; ++group) {
      const Batch& batch = step.plan.groups[group];
      RC_ASSERT(std::ssize(batch.tokens) <= limits_.max_num_tokens);
      RC_ASSERT(std::ssize(batch.kv[0].spans) <= limits_.max_batch_size);
      RC_ASSERT(batch.kv[0].spans.size() == step.entries[group].size());
      RC_ASSERT(std::set<int32_t>(batch.kv[0].slots.begin(), batch.kv[0].slots.end()).size() ==
                batch.kv[0].slots.size());
      int64_t score_rows = 0;
      for (size_t i = 0; i < batch.kv[0].spans.size(); ++i)
        score_rows += check_entry(group, batch, batch.kv[0].spans[i], step.entries[group][i]);
      RC_ASSERT(score_rows <= limits_.max_score_rows);
      rows += std::ssize(batch.tokens);
    }
    RC_ASSERT(rows > 0 && rows == step.prompt_rows + step.generated_rows);
  }

  // Returns the rows that count against max_score_rows.
  int64_t check_entry(int group, const Batch& batch, const SequenceSpan& span, const StepEntry& entry) {
    const size_t index = index_.at(entry.sequence);
    const Spec& spec = specs_[index];
    RC_ASSERT(!ended_.contains(index));
    int64_t& position = next_position_[index];
    RC_ASSERT(groups_[index] == -1 || groups_[index] == group);
    groups_[index] = group;
    // Positions come in order, none twice, none left out; from the beginning again after a preemption.
    if (preempted_.erase(index) > 0 || (may_preempt() && entry.first_position == 0)) {
      std::erase_if(page_owner_, [&](const auto& item) { return item.second == index; });
      position = 0;
    }
    RC_ASSERT(entry.first_position == position);
    RC_ASSERT(span.rows == entry.rows && span.context == position + span.rows);
    RC_ASSERT(span.prompt_rows == std::clamp<int64_t>(spec.prompt - position, 0, span.rows));
    RC_ASSERT(std::ssize(span.pages) ==
              (span.context + limits_.cache.tokens_per_block - 1) / limits_.cache.tokens_per_block);
    for (int64_t row = 0; row < span.rows; ++row, ++position) {
      RC_ASSERT(batch.positions[span.row_begin + row] == position);
      const int32_t page = span.pages[position / limits_.cache.tokens_per_block];
      RC_ASSERT(page >= 0 && page < limits_.cache.pools[0].pages);
      RC_ASSERT(batch.kv[0].slots[span.row_begin + row] ==
                page * limits_.cache.tokens_per_block + position % limits_.cache.tokens_per_block);
      take_page(group, page, index);
    }
    // Only consecutive chunks of what is known may be in flight together, and the token that the last one samples.
    const int64_t known = std::ssize(entry.sequence->tokens);
    RC_ASSERT(position <= known + (limits_.overlap ? 1 : 0));
    RC_ASSERT(entry.awaits_token == (position > known));
    RC_ASSERT((batch.tokens[entry.first_row] == kUnknownToken) == entry.awaits_token);
    const bool all = spec.max_tokens == 0;
    const int64_t expected = entry.sequence->expected();  // this step's included
    RC_ASSERT(expected <= 2);
    RC_ASSERT(entry.samples == (!all && position == known + std::max<int64_t>(0, expected - 1)));
    const int64_t fresh = std::clamp<int64_t>(position - scored_[index], 0, span.rows);
    scored_[index] = std::max(scored_[index], position);
    RC_ASSERT(entry.logits_count == (all ? fresh : int64_t{entry.samples}));
    for (int64_t i = 0; i < entry.logits_count; ++i)
      RC_ASSERT(batch.logit_rows[entry.logits_begin + i] == span.row_begin + span.rows - entry.logits_count + i);
    return all ? span.rows : 0;
  }

  bool may_preempt() const { return limits_.capacity == CapacityPolicy::kMaxUtilization; }

  // A page is one sequence's only, as long as that runs; whoever loses one has been preempted.
  void take_page(int group, int32_t page, size_t index) {
    const auto owner = page_owner_.emplace(std::pair(group, page), index).first;
    if (owner->second == index) return;
    RC_ASSERT(may_preempt());
    const size_t loser = owner->second;
    preempted_.insert(loser);
    std::erase_if(page_owner_, [&](const auto& item) { return item.second == loser; });
    page_owner_[{group, page}] = index;
  }

  void complete() {
    const ScheduledStep step = std::move(in_flight_.front());
    in_flight_.pop_front();
    scheduler_.complete(step);
    for (size_t group = 0; group < step.entries.size(); ++group)
      RC_ASSERT(step.awaits[group] < step.plan.step && (step.awaits[group] < 0 || limits_.overlap));
    for (const auto& entries : step.entries) {
      for (const StepEntry& entry : entries) {
        const size_t index = index_.at(entry.sequence);
        Sequence& sequence = *sequences_[index];
        if (ended_.contains(index)) continue;
        last_served_[index] = clock_;
        const bool scored = sequence.all_logits && entry.first_position + entry.rows == sequence.prompt_tokens;
        if (!scored && !entry.samples) continue;
        if (entry.samples) sequence.tokens.push_back(8);
        if (std::ssize(sequence.tokens) == sequence.prompt_tokens + std::min(sequence.max_tokens, specs_[index].ends))
          end(index);
      }
    }
    ++clock_;
    for (const auto& [index, when] : last_served_) longest_wait_ = std::max(longest_wait_, clock_ - when);
  }

  void end(size_t index) {
    scheduler_.release(*sequences_[index]);
    ended_.insert(index);
    std::erase_if(page_owner_, [&](const auto& item) { return item.second == index; });
    last_served_.erase(index);
    ++finished_;
  }

  std::string words(const ScheduledStep& step) const {
    std::string text;
    for (const auto& entries : step.entries) {
      if (!text.empty()) text += " |";
      for (const StepEntry& entry : entries) {
        if (!text.empty()) text += ' ';
        text += std::string(1, static_cast<char>('a' + index_.at(entry.sequence))) +
                std::to_string(entry.first_position) + "+" + std::to_string(entry.rows);
      }
    }
    return text;
  }

  SchedulerLimits limits_;
  std::vector<Spec> specs_;
  Scheduler scheduler_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::map<const Sequence*, size_t> index_;
  std::vector<int64_t> next_position_;
  std::vector<int64_t> scored_;  // positions whose logits were delivered
  std::vector<int> groups_;
  std::set<size_t> preempted_;  // and not started again
  std::set<size_t> ended_;
  std::map<std::pair<int, int32_t>, size_t> page_owner_;
  std::deque<ScheduledStep> in_flight_;
  std::map<size_t, int64_t> last_served_;
  int64_t clock_ = 0;
  int64_t longest_wait_ = 0;
  size_t finished_ = 0;
};

SchedulerLimits any_limits() {
  SchedulerLimits limits;
  limits.groups = *rc::gen::inRange(1, 4);
  limits.pipeline = *rc::gen::inRange(1, 4);
  limits.overlap = *rc::gen::arbitrary<bool>();
  limits.max_batch_size = *rc::gen::inRange(1, 6);
  limits.max_num_tokens = *rc::gen::inRange(1, 24);
  limits.max_seq_len = 64;
  limits.cache.tokens_per_block = *rc::gen::element(1, 2, 4, 8);
  limits.cache.pools = {{.kind = {}, .pages = 64 / limits.cache.tokens_per_block + *rc::gen::inRange(0, 24)}};
  limits.cache.reuse = false;
  limits.mix_chunks = *rc::gen::arbitrary<bool>();
  limits.max_score_rows = *rc::gen::inRange(1, 24);
  limits.capacity = *rc::gen::element(CapacityPolicy::kGuaranteedNoEvict, CapacityPolicy::kMaxUtilization,
                                      CapacityPolicy::kStaticBatch);
  limits.chunks =
      *rc::gen::element(ChunkPolicy::kFirstComeFirstServed, ChunkPolicy::kEqualProgress, ChunkPolicy::kForceChunk);
  limits.attention_dp.enable_balance = *rc::gen::arbitrary<bool>();
  return limits;
}

std::vector<Spec> any_requests() {
  const auto request = rc::gen::construct<Spec>(rc::gen::inRange<int64_t>(1, 41), rc::gen::inRange<int64_t>(0, 13),
                                                rc::gen::inRange<int64_t>(0, 20), rc::gen::inRange<int64_t>(1, 20));
  std::vector<Spec> specs = *rc::gen::container<std::vector<Spec>>(request);
  if (specs.size() > 20) specs.resize(20);
  return specs;
}

RC_GTEST_PROP(Scheduler, KeepsItsLimitsAndEndsEveryRequest, ()) {
  Simulation simulation(any_limits(), any_requests());
  simulation.run();
}

RC_GTEST_PROP(Scheduler, DependsOnTheOrderOfEventsOnly, ()) {
  const SchedulerLimits limits = any_limits();
  const std::vector<Spec> specs = any_requests();
  std::vector<std::string> first, second;
  Simulation(limits, specs).run(&first);
  Simulation(limits, specs).run(&second);
  RC_ASSERT(first == second);
}

// With room in the batch for all of them, whoever generates is served at least every other step whatever prompts arrive.
RC_GTEST_PROP(Scheduler, PromptsDoNotStarveGeneration, ()) {
  SchedulerLimits limits = small_limits();
  limits.mix_chunks = *rc::gen::arbitrary<bool>();
  limits.max_batch_size = 32;
  limits.cache.pools[0].pages = 1024;
  std::vector<Spec> specs = {{.prompt = 3, .max_tokens = 20}, {.prompt = 5, .max_tokens = 20}};
  for (int64_t i = 0; i < 12; ++i)
    specs.push_back({.prompt = *rc::gen::inRange<int64_t>(1, 40), .max_tokens = 2, .arrives = 1 + i / 2});
  Simulation simulation(limits, specs);
  simulation.run();
  RC_ASSERT(simulation.longest_wait() <= 3);
}

std::vector<std::string> schedule(const SchedulerLimits& limits, const std::vector<Spec>& specs) {
  std::vector<std::string> log;
  Simulation(limits, specs).run(&log);
  return log;
}

using Log = std::vector<std::string>;

TEST(Scheduler, PromptsAndGeneratedTokensShareAStep) {
  EXPECT_EQ(schedule(small_limits(), {{.prompt = 5, .max_tokens = 3}, {.prompt = 4, .max_tokens = 2, .arrives = 1}}),
            (Log{"a0+5", "a5+1 b0+4", "a6+1 b4+1"}));
}

TEST(Scheduler, LongPromptIsCutEvenWithoutChunkedPrefill) {
  EXPECT_EQ(schedule(small_limits(), {{.prompt = 37, .max_tokens = 2}}), (Log{"a0+16", "a16+16", "a32+5", "a37+1"}));
}

TEST(Scheduler, WholePromptGoesFirstWhereItDoesNotFitBeside) {
  // b needs the whole step: it waits once, then the generated token of a waits once.
  EXPECT_EQ(schedule(small_limits(), {{.prompt = 2, .max_tokens = 5}, {.prompt = 16, .max_tokens = 1, .arrives = 1}}),
            (Log{"a0+2", "a2+1", "b0+16", "a3+1", "a4+1", "a5+1"}));
}

TEST(Scheduler, ChunkedPrefillFillsTheStepInWholePages) {
  SchedulerLimits limits = small_limits();
  limits.mix_chunks = true;
  EXPECT_EQ(schedule(limits, {{.prompt = 2, .max_tokens = 4}, {.prompt = 16, .max_tokens = 1, .arrives = 1}}),
            (Log{"a0+2", "a2+1 b0+12", "a3+1 b12+4", "a4+1"}));
}

TEST(Scheduler, MaximumUtilizationStartsWhatFitsNowAndTheLastGivesWay) {
  SchedulerLimits limits = small_limits();
  limits.cache.pools[0].pages = 4;
  limits.capacity = CapacityPolicy::kMaxUtilization;
  EXPECT_EQ(schedule(limits, {{.prompt = 7, .max_tokens = 7}, {.prompt = 7, .max_tokens = 4}}),
            (Log{"a0+7 b0+7", "a7+1 b7+1", "a8+1", "a9+1", "a10+1", "a11+1", "a12+1", "b0+9", "b9+1"}));
}

TEST(Scheduler, StaticBatchesEndBeforeTheNextStarts) {
  SchedulerLimits limits = small_limits();
  limits.max_batch_size = 2;
  limits.capacity = CapacityPolicy::kStaticBatch;
  EXPECT_EQ(schedule(limits,
                     {{.prompt = 2, .max_tokens = 1}, {.prompt = 3, .max_tokens = 2}, {.prompt = 4, .max_tokens = 1}}),
            (Log{"a0+2 b0+3", "b3+1", "c0+4"}));
}

TEST(Scheduler, WaitsForPagesInTheOrderOfArrival) {
  SchedulerLimits limits = small_limits();
  limits.cache.pools[0].pages = 4;  // 16 positions: a takes all; c would fit, but b was first
  EXPECT_EQ(schedule(limits,
                     {{.prompt = 13, .max_tokens = 3}, {.prompt = 9, .max_tokens = 1}, {.prompt = 2, .max_tokens = 1}}),
            (Log{"a0+13", "a13+1", "a14+1", "b0+9 c0+2"}));
}

TEST(Scheduler, SpreadsRequestsOverStepsInFlight) {
  SchedulerLimits limits = small_limits();
  limits.pipeline = 2;
  EXPECT_EQ(schedule(limits, {{.prompt = 2, .max_tokens = 3}, {.prompt = 3, .max_tokens = 3}}),
            (Log{"a0+2", "b0+3", "a2+1", "b3+1", "a3+1", "b4+1"}));
}

TEST(Scheduler, PlansAheadOfTokensThatAreBeingSampled) {
  SchedulerLimits limits = small_limits();
  limits.overlap = true;
  Scheduler scheduler(limits);
  Sequence sequence;
  sequence.tokens = {5, 6, 7};
  sequence.prompt_tokens = 3;
  sequence.max_tokens = 3;
  scheduler.add(sequence);
  const auto prompt = scheduler.next(), second = scheduler.next();
  ASSERT_TRUE(prompt && second);
  EXPECT_FALSE(scheduler.next());  // one ahead, no more
  EXPECT_EQ(prompt->awaits[0], -1);
  EXPECT_EQ(second->awaits[0], prompt->plan.step);
  EXPECT_EQ(second->plan.groups[0].tokens, std::vector<int32_t>{kUnknownToken});
  EXPECT_EQ(second->plan.groups[0].positions, std::vector<int32_t>{3});
  scheduler.complete(*prompt);
  sequence.tokens.push_back(8);
  const auto third = scheduler.next();
  ASSERT_TRUE(third);
  EXPECT_EQ(third->awaits[0], second->plan.step);
  scheduler.complete(*second);
  sequence.tokens.push_back(9);
  EXPECT_FALSE(scheduler.next());  // the third token is the last
  scheduler.release(sequence);     // ended by the second: the third step's row is nobody's
  scheduler.complete(*third);
  EXPECT_EQ(scheduler.used_pages(), 0);
}

TEST(Scheduler, AheadOfAPipelineOnlyWhenEveryStageHasWork) {
  SchedulerLimits limits = small_limits();
  limits.pipeline = 2;
  limits.overlap = true;
  EXPECT_EQ(schedule(limits, {{.prompt = 2, .max_tokens = 3}, {.prompt = 3, .max_tokens = 3}}),
            (Log{"a0+2", "b0+3", "a2+1", "b3+1", "a3+1", "b4+1"}));
  EXPECT_EQ(schedule(limits, {{.prompt = 2, .max_tokens = 3}}), (Log{"a0+2", "a2+1", "a3+1"}));
}

TEST(Scheduler, ChunksOfOnePromptFollowEachOtherThroughThePipeline) {
  SchedulerLimits limits = small_limits();
  limits.pipeline = 3;
  Scheduler scheduler(limits);
  Sequence sequence;
  sequence.tokens.assign(40, 1);
  sequence.prompt_tokens = 40;
  sequence.max_tokens = 4;
  scheduler.add(sequence);
  std::vector<ScheduledStep> steps;
  while (auto step = scheduler.next()) steps.push_back(std::move(*step));
  ASSERT_EQ(steps.size(), 3u);
  EXPECT_EQ(sequence.in_flight(), 3);
  EXPECT_EQ(steps[2].entries[0][0].first_position, 32);
  EXPECT_EQ(steps[2].entries[0][0].logits_count, 1);
  scheduler.complete(steps[0]);
  EXPECT_FALSE(scheduler.next());  // nothing more without the token
}

TEST(Scheduler, FillsTheEmptiestAttentionDpGroup) {
  SchedulerLimits limits = small_limits();
  limits.groups = 2;
  EXPECT_EQ(schedule(limits,
                     {{.prompt = 8, .max_tokens = 1}, {.prompt = 2, .max_tokens = 1}, {.prompt = 3, .max_tokens = 1}}),
            (Log{"a0+8 | b0+2 c0+3"}));
}

TEST(Scheduler, ScoringAsksForEveryRow) {
  SchedulerLimits limits = small_limits();
  limits.max_score_rows = 6;
  EXPECT_EQ(schedule(limits, {{.prompt = 8, .max_tokens = 0}, {.prompt = 2, .max_tokens = 0}}),
            (Log{"a0+6", "a6+2 b0+2"}));
}

TEST(Scheduler, CancelledRequestLeavesNothing) {
  Scheduler scheduler(small_limits());
  Sequence waiting, running;
  for (Sequence* sequence : {&running, &waiting}) {
    sequence->tokens.assign(10, 1);
    sequence->prompt_tokens = 10;
    sequence->max_tokens = 30;
    scheduler.add(*sequence);
  }
  const auto step = scheduler.next();
  ASSERT_TRUE(step);
  EXPECT_EQ(scheduler.waiting(), 1);
  scheduler.release(waiting);
  scheduler.complete(*step);
  scheduler.release(running);
  EXPECT_EQ(scheduler.used_pages(), 0);
  EXPECT_EQ(scheduler.load_tokens(), 0);
  EXPECT_FALSE(scheduler.next());
}

TEST(Scheduler, SaysWhyARequestNeverFits) {
  const SchedulerLimits limits = small_limits();
  EXPECT_EQ(Scheduler::never_fits(limits, 40, 24), "");
  EXPECT_NE(Scheduler::never_fits(limits, 40, 25).find("above max_seq_len 64"), std::string::npos);
  EXPECT_NE(Scheduler::never_fits(limits, 0, 1).find("no tokens"), std::string::npos);
  SchedulerLimits few = limits;
  few.cache.pools[0].pages = 3;
  EXPECT_EQ(Scheduler::never_fits(few, 10, 3), "");  // the last token needs no place
  EXPECT_NE(Scheduler::never_fits(few, 10, 4).find("need 4 KV pages of 4 tokens, and there are 3"), std::string::npos);
}

}  // namespace
}  // namespace shoal
