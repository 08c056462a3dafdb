// SPDX-License-Identifier: Apache-2.0
// Experts that move while requests run: shoal-tiny's tokens and probabilities are bit for bit those of a run without balancer, on every class
// of layout, while domains change and copies fail; and a rank's memory is bounded whatever its tokens pick. With context parallelism the run
// without balancer has the same layout, since another agrees within rounding only.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <random>
#include <set>
#include <span>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/expert_statistics.h"
#include "tests/parity/layouts.h"
#include "tests/support/make_checkpoint.h"

namespace shoal {
namespace {

constexpr const char* kTiny = "models/shoal-tiny";

// Prompts over a few dozen token ids each: the router's choices differ from domain to domain.
std::vector<std::vector<int32_t>> domain(int32_t first_id, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::vector<int32_t>> prompts(12);
  for (auto& prompt : prompts)
    for (int i = 0; i < 48; ++i) prompt.push_back(first_id + static_cast<int32_t>(random() % 40));
  return prompts;
}

EngineConfig tiny_config(const Layout& layout) {
  EngineConfig config = config_of(layout, "float32");
  config.deterministic = true;
  config.max_num_tokens = 64;
  config.comm_timeout_s = 60;
  return config;
}

EngineConfig online(EngineConfig config, int64_t slots) {
  auto& balancer = config.moe.load_balancer.emplace();
  balancer.num_slots = slots;
  balancer.layer_updates_per_iter = 2;
  return config;
}

using Answers = std::vector<std::pair<std::vector<int32_t>, std::vector<float>>>;

void add_answers(Engine& engine, const std::vector<std::vector<int32_t>>& prompts, Answers& answers) {
  for (const GenerationResult& result : engine.generate(prompts, {.max_tokens = 8, .ignore_eos = true})) {
    auto& [tokens, logprobs] = answers.emplace_back();
    tokens = result.token_ids;
    for (const TokenLogprob& one : result.logprobs) logprobs.push_back(one.logprob);
  }
}

// Rounds of changing domains until something has moved (planning is a thread's, at its own pace), `rounds` at least.
Answers answers_of(Engine& engine, int rounds, const std::function<bool()>& done = {}) {
  Answers answers;
  for (int round = 0; round < rounds || (done && round < 60 && !done()); ++round)
    add_answers(engine, domain(round % 2 == 0 ? 100 : 2500, static_cast<uint32_t>(round)), answers);
  return answers;
}

// Every expert of every layer somewhere.
void expect_whole(const ExpertStatus& status, int64_t experts) {
  for (const auto& [layer, slots] : status.slots) {
    std::set<int32_t> held(slots.begin(), slots.end());
    held.erase(-1);
    EXPECT_EQ(std::ssize(held), experts) << "layer " << layer;
  }
}

class Balancer : public ::testing::TestWithParam<Layout> {};

TEST_P(Balancer, TokensAreThoseOfARunWithoutIt) {
  const Layout& layout = GetParam();
  // With slots to spare, two ranks hold so much in common that splits alone balance them.
  Engine moving(kTiny, online(tiny_config(layout), layout.ep == 2 ? 32 : 40));
  const auto moves = [&] {
    int64_t fewest = std::numeric_limits<int64_t>::max();
    for (const ExpertStatus& status : moving.expert_status()) fewest = std::min(fewest, status.moves.layers);
    return fewest;
  };
  const Answers answers = answers_of(moving, 3, [&] { return moves() > 0; });
  EXPECT_GT(moves(), 0);
  for (const ExpertStatus& status : moving.expert_status()) expect_whole(status, 32);
  Engine still(kTiny, tiny_config(layout.cp > 1 ? layout : Layout{"one"}));
  EXPECT_EQ(answers, answers_of(still, static_cast<int>(answers.size() / 12)));
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, Balancer,
    ::testing::Values(
        Layout{"ep4", 4, 1, 1, 1, 4}, Layout{"adp4_ep4", 4, 1, 1, 1, 4, 4},
        Layout{"adp4_moe_tp2_ep2", 4, 1, 1, 2, 2, 4}, Layout{"tp4_adp2_ep4", 4, 1, 1, 1, 4, 2},
        Layout{"adp2_pp2_ep2", 2, 2, 1, 1, 2, 2}, Layout{"dp2_adp2_ep2", 2, 1, 2, 1, 2, 2},
        Layout{"adp4_pp2_moe_tp2_ep2", 4, 2, 1, 2, 2, 4}, Layout{"pp2_moe_tp2_ep2", 4, 2, 1, 2, 2},
        Layout{.name = "tp2_cp2_ep4", .tp = 2, .ep = 4, .cp = 2},
        Layout{.name = "adp2_cp2_pp2_ep4", .tp = 2, .pp = 2, .ep = 4, .attention_dp = 2, .cp = 2, .cp_type = "RING"}),
    [](const auto& row) { return row.param.name; });

// A stage model that fails at moving experts, or at a step, as told.
struct Trouble {
  std::atomic<bool> copies_fail = false;
  std::atomic<int64_t> failing_step = -1;
  std::atomic<int64_t> most_rows = 0;
  std::atomic<int64_t> most_rows_of_first = 0;  // of rank 0
};

class TroubledStage : public StageModel {
 public:
  TroubledStage(std::unique_ptr<StageModel> inner, int rank, Trouble& trouble)
      : inner_(std::move(inner)), rank_(rank), trouble_(trouble), random_(static_cast<uint32_t>(rank)) {}

  const RankPlan& plan() const override { return inner_->plan(); }
  void load(LoadProgress& progress) override { inner_->load(progress); }
  void allocate_kv(std::span<const int64_t> pages) override { inner_->allocate_kv(pages); }
  void connect(const RankGroups& groups) override { inner_->connect(groups); }
  Tensor forward(const StepPlan& plan, const Tensor& hidden) override {
    if (rank_ == 0 && trouble_.copies_fail && plan.experts) fail_copies(*plan.experts);
    if (rank_ == 1 && plan.step == trouble_.failing_step) throw std::runtime_error("a planned failure");
    Tensor result = inner_->forward(plan, hidden);
    for (const auto& [layer, picks] : inner_->expert_picks()) note(picks.most_rows);
    return result;
  }
  Tensor logits(const StepPlan& plan, const Tensor& hidden) override { return inner_->logits(plan, hidden); }
  const std::map<int64_t, LayerPicks>& expert_picks() const override { return inner_->expert_picks(); }
  std::shared_ptr<const Placement> placement(int64_t layer) const override { return inner_->placement(layer); }
  ExpertWeights expert_weights(int64_t layer, int64_t slot) const override {
    return inner_->expert_weights(layer, slot);
  }
  std::vector<ExpertWeights> expert_room() const override { return inner_->expert_room(); }
  void place_experts(std::span<const LayerFlip> flips) override { inner_->place_experts(flips); }

 private:
  void note(int64_t rows) {
    if (rows > trouble_.most_rows) trouble_.most_rows = rows;
    if (rank_ == 0) trouble_.most_rows_of_first = std::max<int64_t>(trouble_.most_rows_of_first, rows);
  }

  // One in eight, and with it its layer's others, as when a piece of it throws; the rest go on, or have ended.
  void fail_copies(const ExpertStep& step) {
    for (const auto& copy : step.copies)
      if (random_() % 8 == 0) *copy->abandoned = true;
  }

  std::unique_ptr<StageModel> inner_;
  int rank_;
  Trouble& trouble_;
  std::mt19937 random_;
};

// The real model behind TroubledStage; must outlive the engine's construction.
class TroubledModels {
 public:
  TroubledModels(const std::filesystem::path& model, const EngineConfig& config, Trouble& trouble)
      : setup_(set_up_model(model, config, SetupFor::kRunning)) {
    const StageModelFactory real = rank_models(
        {.spec = setup_.spec, .mesh = setup_.mesh, .options = setup_.options, .checkpoint = setup_.checkpoint.get()});
    hooks.models = [real, &trouble](int rank, Backend& backend) {
      return std::make_unique<TroubledStage>(real(rank, backend), rank, trouble);
    };
  }
  EngineHooks hooks;

 private:
  ModelSetup setup_;
};

TEST(BalancerFaults, CopiesThatFailLeaveWholePlacements) {
  const EngineConfig config = online(tiny_config({"adp4_ep4", 4, 1, 1, 1, 4, 4}), 40);
  Trouble trouble;
  trouble.copies_fail = true;
  const TroubledModels models(kTiny, config, trouble);
  Engine engine(kTiny, config, models.hooks);
  const auto moves = [&] { return engine.expert_status().front().moves; };
  const Answers answers = answers_of(engine, 3, [&] { return moves().given_up > 0 && moves().layers > 0; });
  EXPECT_GT(moves().given_up, 0);
  EXPECT_GT(moves().layers, 0);
  expect_whole(engine.expert_status().front(), 32);
  Engine still(kTiny, tiny_config({"one"}));
  EXPECT_EQ(answers, answers_of(still, static_cast<int>(answers.size() / 12)));
}

TEST(BalancerFaults, ARankThatFailsInTheMiddleOfMovesEndsTheRequests) {
  const EngineConfig config = online(tiny_config({"adp4_ep4", 4, 1, 1, 1, 4, 4}), 40);
  Trouble trouble;
  trouble.failing_step = 40;
  const TroubledModels models(kTiny, config, trouble);
  Engine engine(kTiny, config, models.hooks);
  EXPECT_THROW(answers_of(engine, 20), EngineFailure);
  expect_whole(engine.expert_status().front(), 32);
}

TEST(BalancerFaults, ShutdownAndCancellationInTheMiddleOfMoves) {
  for (int i = 0; i < 3; ++i) {
    std::vector<std::promise<FinishReason>> ended(12);
    {
      Engine engine(kTiny, online(tiny_config({"adp4_ep4", 4, 1, 1, 1, 4, 4}), 40));
      if (i == 2) answers_of(engine, 1);
      std::vector<uint64_t> ids;
      const auto prompts = domain(100, 7);
      for (size_t p = 0; p < prompts.size(); ++p)
        ids.push_back(
            engine.submit(prompts[p], {.max_tokens = 400, .ignore_eos = true},
                          {.on_output = {}, .on_logits = {}, .on_finish = [&ended, p](GenerationResult result) {
                             ended[p].set_value(result.finish_reason);
                           }}));
      if (i == 1)
        for (size_t p = 0; p < ids.size(); p += 2) engine.cancel(ids[p]);
    }
    for (auto& one : ended) {
      const FinishReason reason = one.get_future().get();
      EXPECT_TRUE(reason == FinishReason::kError || reason == FinishReason::kCancelled);
    }
  }
}

// All experts on one rank, so that every token needs it.
LoadBalancerConfig crowded() {
  LoadBalancerConfig config;
  config.num_slots = 128;
  for (int64_t layer = 1; layer < 8; ++layer) {
    std::vector<int32_t>& slots = config.initial_global_assignments[layer];
    for (int32_t expert = 0; expert < 32; ++expert) slots.push_back(expert);
    slots.resize(128, -1);
  }
  return config;
}

// What enters a call is bounded all the same, and nothing else changes.
TEST(MoeMemory, IsBoundedWhateverTheTokensPick) {
  EngineConfig config = tiny_config({"adp4_ep4", 4, 1, 1, 1, 4, 4});
  config.moe.load_balancer = crowded();
  const auto prompts = domain(100, 3);
  std::map<int64_t, std::vector<std::vector<float>>> logits;
  std::map<int64_t, int64_t> most_rows, planned;
  for (const int64_t bound : {0, 96, 10, 1}) {
    config.moe.max_num_tokens = bound;
    Trouble trouble;
    const TroubledModels models(kTiny, config, trouble);
    Engine engine(kTiny, config, models.hooks);
    logits[bound] = engine.score(prompts);
    most_rows[bound] = trouble.most_rows;
    planned[bound] = engine.info().plans.front().activation_bytes;
    EXPECT_EQ(logits[bound], logits[0]) << bound;
  }
  EXPECT_EQ(logits[0], Engine(kTiny, tiny_config({"one"})).score(prompts));
  EXPECT_EQ(most_rows[0], 48);  // of 4 prompts' 192, with 768 picks: divided in quarters, since 336 are planned for
  EXPECT_LE(most_rows[96], 96);
  EXPECT_LE(most_rows[10], 10);
  EXPECT_EQ(most_rows[1], 4);  // one token of each home at least
  EXPECT_GT(planned[0], planned[96]);
  EXPECT_GE(planned[96], planned[10]);  // something else may take the most
}

// Without attention data parallel all ranks have the same tokens; calls are cut just so, by each rank for itself.
TEST(MoeMemory, IsBoundedWhereRanksShareTheirTokens) {
  EngineConfig config = tiny_config({"ep4", 4, 1, 1, 1, 4});
  config.deterministic = false;
  const auto prompts = domain(100, 3);
  for (const bool crowd : {false, true}) {
    if (crowd) config.moe.load_balancer = crowded();
    std::vector<std::vector<float>> unbounded;
    for (const int64_t bound : {0, 20}) {
      config.moe.max_num_tokens = bound;
      Trouble trouble;
      const TroubledModels models(kTiny, config, trouble);
      Engine engine(kTiny, config, models.hooks);
      const auto logits = engine.score(prompts);
      if (bound == 0) unbounded = logits;
      EXPECT_EQ(logits, unbounded);
      // A prompt, or a third of it; or half of that where its picks are all rank 0's. Ranks without experts halve nothing.
      const int64_t most = bound == 0 ? 48 : 16;
      EXPECT_EQ(trouble.most_rows, most);
      EXPECT_EQ(trouble.most_rows_of_first, crowd ? most / 2 : most);
    }
  }
}

TEST(ExpertStatisticsOfARun, AddUpToThePicks) {
  const testing_support::TempDirectory directory;
  for (const Layout& layout : {Layout{"adp2_pp2_ep2", 2, 2, 1, 1, 2, 2}, Layout{"dp2_tp2_ep2", 2, 1, 2, 1, 2}}) {
    EngineConfig config = tiny_config(layout);
    config.expert_statistic = {.path = (directory.path() / layout.name).string(), .iter_range = "0-100000"};
    Engine engine(kTiny, config);
    answers_of(engine, 1);
    const int64_t steps = engine.write_expert_statistics();
    EXPECT_GT(steps, 0);
    const ExpertStatistics read = read_expert_statistics(config.expert_statistic.path);
    EXPECT_EQ(read.rank_files, 2);
    EXPECT_EQ(std::ssize(read.counts), steps);
    const ExpertLoads loads = engine.expert_loads();
    for (size_t i = 0; i < read.layers.size(); ++i) EXPECT_EQ(read.total(i), loads.by_expert.at(read.layers[i]));
    // Started and stopped while it runs.
    engine.start_expert_statistics();
    Answers ignored;
    add_answers(engine, domain(100, 1), ignored);
    const std::filesystem::path later = directory.path() / (layout.name + "_later");
    EXPECT_GT(engine.stop_expert_statistics(later), 0);
    const ExpertStatistics second = read_expert_statistics(later);
    EXPECT_GE(second.first_iteration, steps);
    std::vector<int64_t> both = read.total(0);
    for (size_t expert = 0; expert < both.size(); ++expert) both[expert] += second.total(0)[expert];
    EXPECT_EQ(both, engine.expert_loads().by_expert.at(second.layers[0]));
    add_answers(engine, domain(100, 2), ignored);
    EXPECT_EQ(engine.stop_expert_statistics(directory.path() / "none"), 0);
  }
}

// Every token once, whichever rank counted it: under each layout the same tokens with the same experts, and as many picks as the counts say.
TEST(ExpertStatisticsOfARun, HoldEachTokensSelections) {
  const testing_support::TempDirectory directory;
  std::map<int64_t, std::multiset<std::vector<int64_t>>> alone;  // layer -> tokens
  for (const Layout& layout : {Layout{"alone", 1, 1, 1, 1, 1, 1}, Layout{"adp2_pp2_ep2", 2, 2, 1, 1, 2, 2},
                               Layout{"dp2_tp2_ep2", 2, 1, 2, 1, 2}, Layout{"tp2_moe_tp2", 2, 1, 1, 2, 1},
                               Layout{.name = "tp2_cp2_ep4", .tp = 2, .ep = 4, .cp = 2}}) {
    EngineConfig config = tiny_config(layout);
    config.expert_statistic = {
        .path = (directory.path() / layout.name).string(), .iter_range = "0-100000", .token_selections = true};
    Engine engine(kTiny, config);
    engine.score(domain(40, 5));
    ASSERT_GT(engine.write_expert_statistics(), 0) << layout.name;
    const ExpertStatistics counts = read_expert_statistics(config.expert_statistic.path);
    std::map<int64_t, std::multiset<std::vector<int64_t>>> tokens;
    std::map<int64_t, std::vector<int64_t>> picks;
    visit_token_selections(config.expert_statistic.path, {}, [&](const TokenSelections& selections) {
      std::vector<int64_t>& sum = picks[selections.layer];
      sum.resize(counts.counters);
      for (const int64_t expert : selections.experts) ++sum[expert];
      for (size_t i = 0; i < selections.experts.size(); i += selections.top_k) {
        const auto token = selections.experts.subspan(i, selections.top_k);
        tokens[selections.layer].emplace(token.begin(), token.end());
      }
    });
    for (size_t i = 0; i < counts.layers.size(); ++i) EXPECT_EQ(picks.at(counts.layers[i]), counts.total(i));
    if (alone.empty()) alone = tokens;
    EXPECT_EQ(tokens, alone) << layout.name;
    EXPECT_EQ(read_cooccurrence(config.expert_statistic.path).size(), counts.layers.size());
  }
}

}  // namespace
}  // namespace shoal
