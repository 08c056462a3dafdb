// SPDX-License-Identifier: Apache-2.0
// The engine's plumbing over a fake model that counts upwards: the next token after t is t + 1. Whatever the layout, batch or chunking,
// a request must see exactly its own count; and when a rank fails, everybody hears of it.
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <numeric>
#include <thread>

#include "base/error.h"

namespace shoal {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const char* const kModel = "models/shoal-tiny";

struct Faults {
  int rank = -1;
  int64_t step = -1;   // throw in forward of this step
  int64_t slow = -1;   // be late with the logits of this one
  bool load = false;   // throw while loading
  bool users = false;  // an Error, as for a damaged file
  std::atomic<int> forwards{0};
};

class CountingModel : public StageModel {
 public:
  CountingModel(const Mesh& mesh, int rank, int64_t vocab, Backend& backend, Faults& faults)
      : mesh_(mesh), rank_(rank), vocab_(vocab), backend_(backend), faults_(faults) {
    plan_.layers = {0, 1};
    plan_.weight_bytes = 1000;
    plan_.kv_bytes_per_token = 16;
    plan_.kv_pool_bytes_per_token = {16};
  }

  const RankPlan& plan() const override { return plan_; }
  void load(LoadProgress&) override {
    if (rank_ != faults_.rank || !faults_.load) return;
    if (faults_.users) throw Error(ErrorKind::kInvalid, "weights.safetensors: tensor x is damaged");
    throw std::runtime_error("cannot load");
  }
  void allocate_kv(std::span<const int64_t> pages) override { EXPECT_GE(pages[0], 1); }
  void connect(const RankGroups& groups) override { attn_ = groups.attn; }

  Tensor forward(const StepPlan& plan, const Tensor& hidden) override {
    ++faults_.forwards;
    if (rank_ == faults_.rank && plan.step == faults_.step) throw std::runtime_error("a planned failure");
    const auto rows = static_cast<int64_t>(batch(plan).tokens.size());
    if (hidden.defined()) CHECK_EQ(hidden.rows(), rows);
    attn_->barrier();  // whoever is left alone must be woken
    std::vector<float> values(rows * kHidden);
    const bool first = mesh_.at(rank_).pp == 0;  // no other stage may look at the tokens
    for (int64_t row = 0; first && row < rows; ++row)
      values[row * kHidden] = static_cast<float>(batch(plan).tokens[row] + 1);
    if (!first) return hidden;
    return backend_.from_host(values, {rows, kHidden});
  }

  Tensor logits(const StepPlan& plan, const Tensor& hidden) override {
    if (rank_ == faults_.rank && plan.step == faults_.slow) std::this_thread::sleep_for(std::chrono::seconds(2));
    const std::vector<float> values = backend_.to_host(hidden);
    const std::vector<int32_t>& rows = batch(plan).logit_rows;
    std::vector<float> logits(rows.size() * vocab_);
    for (size_t i = 0; i < rows.size(); ++i)
      logits[i * vocab_ + static_cast<int64_t>(values[rows[i] * kHidden])] = 10.0f;
    return backend_.from_host(logits, {std::ssize(rows), vocab_});
  }
  const std::map<int64_t, LayerPicks>& expert_picks() const override { return picks_; }
  std::shared_ptr<const Placement> placement(int64_t) const override { return nullptr; }
  ExpertWeights expert_weights(int64_t, int64_t) const override { return {}; }
  std::vector<ExpertWeights> expert_room() const override { return {}; }
  void place_experts(std::span<const LayerFlip>) override {}

  static constexpr int64_t kHidden = 256;  // shoal-tiny's

 private:
  const Batch& batch(const StepPlan& plan) const { return plan.groups[mesh_.at(rank_).attn_dp]; }

  Mesh mesh_;
  int rank_;
  int64_t vocab_;
  Backend& backend_;
  Faults& faults_;
  RankPlan plan_;
  Comm* attn_ = nullptr;
  std::map<int64_t, LayerPicks> picks_;
};

EngineConfig tiny_config() {
  EngineConfig config;
  config.max_batch_size = 4;
  config.max_num_tokens = 16;
  config.max_seq_len = 128;
  config.kv_cache.max_tokens = 512;
  config.comm_timeout_s = 20;
  config.device = "reference";
  return config;
}

EngineHooks counting(const EngineConfig& config, Faults& faults) {
  EngineHooks hooks;
  hooks.models = [mesh = Mesh(config.grid()), &faults](int rank, Backend& backend) {
    return std::make_unique<CountingModel>(mesh, rank, 4096, backend, faults);
  };
  return hooks;
}

std::vector<int32_t> counting_from(int32_t first, int64_t count) {
  std::vector<int32_t> ids(count);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

struct Layout {
  const char* name;
  int64_t dp = 1, pp = 1, tp = 1, adp = 1;
};

class EngineLayouts : public testing::TestWithParam<Layout> {
 protected:
  static EngineConfig config() {
    EngineConfig config = tiny_config();
    config.data_parallel_size = GetParam().dp;
    config.pipeline_parallel_size = GetParam().pp;
    config.tensor_parallel_size = GetParam().tp;
    config.attention_dp_size = GetParam().adp;
    return config;
  }
};

TEST_P(EngineLayouts, EveryRequestGetsItsOwnCount) {
  Faults faults;
  const EngineConfig layout = config();
  Engine engine(kModel, layout, counting(layout, faults));
  std::vector<std::vector<int32_t>> prompts;
  for (int32_t i = 0; i < 13; ++i) prompts.push_back(counting_from(100 * (i + 1), 1 + 7 * i % 40));
  const auto results = engine.generate(prompts, {.max_tokens = 9});
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(results[i].token_ids, counting_from(prompts[i].back() + 1, 9)) << i;
    EXPECT_EQ(results[i].prompt_token_ids, prompts[i]);
    EXPECT_EQ(results[i].finish_reason, FinishReason::kLength);
    EXPECT_EQ(results[i].logprobs.size(), 9u);
    const RequestTimes& times = results[i].times;
    EXPECT_GT(times.queue_seconds, 0.0);
    EXPECT_GT(times.first_token_seconds, times.queue_seconds);
    EXPECT_GT(times.end_seconds, times.first_token_seconds);
  }
  EXPECT_EQ(engine.step_stats().prompt_tokens, [&] {
    int64_t sum = 0;
    for (const auto& prompt : prompts) sum += std::ssize(prompt);
    return sum;
  }());
}

TEST_P(EngineLayouts, TellsWhereTheTimeOfEachRankWent) {
  Faults faults;
  const EngineConfig layout = config();
  Engine engine(kModel, layout, counting(layout, faults));
  const auto begin = std::chrono::steady_clock::now();
  engine.generate(std::vector<std::vector<int32_t>>(8, counting_from(100, 30)), {.max_tokens = 10});
  const EngineStats stats = engine.stats();
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(stats.steps.steps, 10 * layout.data_parallel_size);
  EXPECT_GT(stats.steps.planning_seconds, 0.0);
  EXPECT_GT(stats.steps.sampling_seconds, 0.0);
  EXPECT_GT(stats.cache.total_pages, 0);
  ASSERT_EQ(std::ssize(stats.ranks), engine.mesh().world_size());
  for (const RankStats& rank : stats.ranks) {
    EXPECT_GT(rank.steps, 0);
    EXPECT_GT(rank.compute_seconds, 0.0);
    const bool staged = layout.pipeline_parallel_size > 1;
    EXPECT_EQ(rank.stage_seconds > 0.0, staged);
    EXPECT_LE(rank.busy_seconds() + rank.stage_seconds + rank.idle_seconds, wall.count());
    EXPECT_GE(rank.bubble(), 0.0);
    EXPECT_LT(rank.bubble(), 1.0);
  }
}

TEST_P(EngineLayouts, ScoringGivesEveryRow) {
  Faults faults;
  const EngineConfig layout = config();
  Engine engine(kModel, layout, counting(layout, faults));
  const std::vector<std::vector<int32_t>> prompts = {counting_from(50, 37), counting_from(1000, 3),
                                                     counting_from(2000, 20)};
  const auto logits = engine.score(prompts);
  for (size_t i = 0; i < prompts.size(); ++i) {
    ASSERT_EQ(logits[i].size(), prompts[i].size() * 4096);
    for (size_t row = 0; row < prompts[i].size(); ++row)
      EXPECT_EQ(argmax(std::span(logits[i]).subspan(row * 4096, 4096)), prompts[i][row] + 1);
  }
}

TEST_P(EngineLayouts, FailureOfAnyRankReachesEveryRequest) {
  const int world = Mesh(config().grid()).world_size();
  for (int rank = 0; rank < world; ++rank) {
    Faults faults;
    faults.rank = rank;
    faults.step = 2;
    const EngineConfig layout = config();
    Engine engine(kModel, layout, counting(layout, faults));
    const std::vector<std::vector<int32_t>> prompts(8, counting_from(100, 10));
    try {
      engine.generate(prompts, {.max_tokens = 20});
      FAIL() << "rank " << rank;
    } catch (const EngineFailure& failure) {
      EXPECT_THAT(failure.what(), AllOf(HasSubstr("rank " + std::to_string(rank) + " ("), HasSubstr("stage "),
                                        HasSubstr("a planned failure")));
    }
    EXPECT_THROW(engine.generate(prompts, {.max_tokens = 1}), EngineFailure);  // and says so from now on
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, EngineLayouts,
                         testing::Values(Layout{.name = "one"}, Layout{.name = "tp2", .tp = 2},
                                         Layout{.name = "pp3", .pp = 3}, Layout{.name = "dp2", .dp = 2},
                                         Layout{.name = "adp4", .tp = 4, .adp = 4},
                                         Layout{.name = "adp2_of_tp4", .tp = 4, .adp = 2},
                                         Layout{.name = "dp2_pp2_tp2", .dp = 2, .pp = 2, .tp = 2}),
                         [](const auto& layout) { return std::string(layout.param.name); });

TEST(Engine, FailureWhileLoadingNamesTheRank) {
  Faults faults;
  faults.rank = 1;
  faults.load = true;
  EngineConfig config = tiny_config();
  config.tensor_parallel_size = 2;
  try {
    Engine engine(kModel, config, counting(config, faults));
    FAIL();
  } catch (const EngineFailure& failure) {
    EXPECT_THAT(failure.what(), AllOf(HasSubstr("rank 1 ("), HasSubstr("cannot load")));
  }
  faults.users = true;  // a wrong file is the user's, whichever rank reads it
  EXPECT_THROW(Engine(kModel, config, counting(config, faults)), Error);
}

TEST(Engine, StopTokenEndsAndIsKept) {
  Faults faults;
  const EngineConfig config = tiny_config();
  Engine engine(kModel, config, counting(config, faults));
  const auto stopped = engine.generate({{2, 3}}, {.max_tokens = 9})[0];  // 5 is one of the model's
  EXPECT_EQ(stopped.token_ids, (std::vector<int32_t>{4, 5}));
  EXPECT_EQ(stopped.finish_reason, FinishReason::kStop);
  const auto ignored = engine.generate({{2, 3}}, {.max_tokens = 9, .ignore_eos = true})[0];
  EXPECT_EQ(ignored.token_ids, counting_from(4, 9));
  const auto own = engine.generate({{200}}, {.max_tokens = 9, .stop_token_ids = {203}})[0];
  EXPECT_EQ(own.token_ids, counting_from(201, 3));
}

TEST(Engine, StreamsTheTextOfTheResult) {
  Faults faults;
  const EngineConfig config = tiny_config();
  Engine engine(kModel, config, counting(config, faults));
  std::string streamed;
  const auto result = engine.generate({{300}}, {.max_tokens = 20},
                                      [&](size_t, const OutputDelta& delta) { streamed += delta.text; })[0];
  EXPECT_EQ(streamed, result.text);
  EXPECT_EQ(result.text, engine.tokenizer()->decode(result.token_ids, true));
  // Stop strings cut the text where it begins.
  const std::string stop = result.text.substr(result.text.size() / 2, 4);
  const auto cut = engine.generate({{300}}, {.max_tokens = 20, .stop = {stop}})[0];
  EXPECT_EQ(cut.finish_reason, FinishReason::kStop);
  EXPECT_EQ(cut.text, result.text.substr(0, result.text.find(stop)));
}

TEST(Engine, WhoeverListensDoesNotHoldUpTheNextStep) {
  for (const bool overlap : {true, false}) {
    Faults faults;
    EngineConfig config = tiny_config();
    config.disable_overlap_scheduler = !overlap;
    Engine engine(kModel, config, counting(config, faults));
    int tokens = 0;
    const auto results = engine.generate({{100}}, {.max_tokens = 6}, [&](size_t, const OutputDelta&) {
      const int steps = std::min(++tokens + (overlap ? 2 : 1), 6);
      const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (faults.forwards < steps && std::chrono::steady_clock::now() < end) std::this_thread::yield();
      EXPECT_GE(faults.forwards, steps);
    });
    EXPECT_EQ(results[0].token_ids, counting_from(101, 6));
  }
}

TEST(Engine, RowsOfRequestsThatHaveEndedAreDropped) {
  Faults faults;
  const EngineConfig config = tiny_config();
  Engine engine(kModel, config, counting(config, faults));
  const auto results = engine.generate({{300}, {200}, {201}}, {.max_tokens = 20, .stop_token_ids = {205}});
  EXPECT_EQ(results[0].token_ids, counting_from(301, 20));
  EXPECT_EQ(results[1].token_ids, counting_from(201, 5));
  EXPECT_EQ(results[2].token_ids, counting_from(202, 4));
  EXPECT_EQ(engine.cache_use().used_pages, 0);
  EXPECT_EQ(engine.step_stats().generated_tokens, 19 + 4 + 3);
}

TEST(Engine, SaysWhoIsLateWithTokens) {
  Faults faults;
  faults.rank = 0;
  faults.slow = 1;
  EngineConfig config = tiny_config();
  config.tensor_parallel_size = 2;
  config.comm_timeout_s = 0.5;
  Engine engine(kModel, config, counting(config, faults));
  try {
    engine.generate({{100}}, {.max_tokens = 9});
    FAIL();
  } catch (const EngineFailure& failure) {
    EXPECT_THAT(failure.what(), AllOf(HasSubstr("rank 1 ("), HasSubstr("waited 0.5 s for the tokens that rank 0 ("),
                                      HasSubstr("in step 1")));
  }
}

TEST(Engine, CancelEndsTheRequestOnly) {
  Faults faults;
  EngineConfig config = tiny_config();
  config.pipeline_parallel_size = 2;
  config.max_seq_len = 2000;
  config.kv_cache.max_tokens = 8000;
  Engine engine(kModel, config, counting(config, faults));
  std::promise<void> started;
  std::promise<GenerationResult> cancelled, other;
  std::atomic<int> tokens{0};
  const uint64_t id =
      engine.submit({100}, {.max_tokens = 1900, .ignore_eos = true},
                    {.on_output =
                         [&](const OutputDelta&) {
                           if (++tokens == 3) started.set_value();
                         },
                     .on_logits = {},
                     .on_finish = [&](GenerationResult result) { cancelled.set_value(std::move(result)); }});
  engine.submit({200}, {.max_tokens = 30},
                {.on_output = {}, .on_logits = {}, .on_finish = [&](GenerationResult result) {
                   other.set_value(std::move(result));
                 }});
  started.get_future().wait();
  engine.cancel(id);
  const GenerationResult result = cancelled.get_future().get();
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_GE(result.token_ids.size(), 3u);
  EXPECT_LT(result.token_ids.size(), 1900u);
  EXPECT_EQ(other.get_future().get().token_ids, counting_from(201, 30));
}

TEST(Engine, DestructionEndsWhatIsRunning) {
  Faults faults;
  std::promise<GenerationResult> ended;
  {
    const EngineConfig config = tiny_config();
    Engine engine(kModel, config, counting(config, faults));
    engine.submit({100}, {.max_tokens = 100, .ignore_eos = true},
                  {.on_output = {}, .on_logits = {}, .on_finish = [&](GenerationResult result) {
                     ended.set_value(std::move(result));
                   }});
  }
  const GenerationResult result = ended.get_future().get();
  EXPECT_TRUE(result.finish_reason == FinishReason::kError || result.finish_reason == FinishReason::kLength);
}

TEST(Engine, ThrowingCallbackEndsItsOwnRequestOnly) {
  Faults faults;
  const EngineConfig config = tiny_config();
  Engine engine(kModel, config, counting(config, faults));
  const auto results = engine.generate({{100}, {200}}, {.max_tokens = 5}, [](size_t index, const OutputDelta&) {
    if (index == 0) throw std::runtime_error("client went away");
  });
  EXPECT_EQ(results[0].finish_reason, FinishReason::kError);
  EXPECT_EQ(results[0].error, "client went away");
  EXPECT_EQ(results[1].token_ids, counting_from(201, 5));
}

TEST(Engine, RefusesWhatCanNeverRun) {
  Faults faults;
  const EngineConfig config = tiny_config();
  Engine engine(kModel, config, counting(config, faults));
  const auto refusal = [&](const std::vector<std::vector<int32_t>>& prompts,
                           const SamplingParams& params) -> std::string {
    try {
      engine.generate(prompts, params);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(refusal({{1, 4096}}, {}), HasSubstr("token id 4096 at position 1"));
  EXPECT_THAT(refusal({{-1}}, {}), HasSubstr("token id -1"));
  EXPECT_THAT(refusal({{}}, {}), HasSubstr("no tokens"));
  EXPECT_THAT(refusal({{1}}, {.max_tokens = 128}), HasSubstr("max_seq_len 128"));
  EXPECT_THAT(refusal({{1}}, {.top_p = 2.0f}), HasSubstr("top_p is 2"));
  EXPECT_THAT(refusal({{1}, {4096}, {}}, {}), AllOf(HasSubstr("prompt 1: "), HasSubstr("prompt 2: ")));
}

TEST(Engine, SameSeedSameTokensAloneAndTogether) {
  Faults faults;
  const EngineConfig config = tiny_config();
  Engine engine(kModel, config, counting(config, faults));
  const SamplingParams params{.max_tokens = 8, .temperature = 8.0f, .seed = 77, .ignore_eos = true};
  const auto alone = engine.generate({{500}}, params)[0].token_ids;
  const auto together = engine.generate({{900}, {500}, {500, 501}}, params);
  EXPECT_EQ(together[1].token_ids, alone);
  EXPECT_NE(together[0].token_ids, alone);
}

}  // namespace
}  // namespace shoal
