// SPDX-License-Identifier: Apache-2.0
// Engine: a model directory, served. Checks everything that can be checked before a weight is read, starts the ranks, loads, and takes
// requests from any thread: each goes to the replica with the fewest tokens, and there to such an attention-DP group.
// Invariants: construction fails with *all* problems at once (Error), or with the first rank's failure (EngineFailure); every accepted
// request ends with on_finish exactly once; a request's tokens depend on its prompt, parameters and seed only.
// Not here: the command line (apps/), HTTP (server/), chat templates (text/).
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/engine_config.h"
#include "engine/engine_stats.h"
#include "engine/expert_balancer.h"
#include "engine/kv_budget.h"
#include "engine/live_request.h"
#include "engine/model_setup.h"
#include "engine/replica.h"
#include "text/tokenizer.h"

namespace shoal {

class Engine;

struct EngineHooks {
  // On the constructing thread: several times a second while weights are read, and when done == total. What it throws ends
  // the construction.
  std::function<void(int64_t done_bytes, int64_t total_bytes)> on_load;
  // When everything is planned and nothing read: info() is known and check() works. What it throws ends the construction.
  std::function<void(const Engine&)> on_planned;
  // Once, on the failing rank's thread, when a rank has failed after loading: "rank 3 (dp 0, stage 0, tp 3): …".
  std::function<void(const std::string&)> on_failed;
  std::optional<Tokenizer> tokenizer;  // already loaded; else the directory's, if it has one
  StageModelFactory models;            // in place of the real model's (tests)
  // Around each rank's model: to make it fail on purpose.
  std::function<std::unique_ptr<StageModel>(int rank, std::unique_ptr<StageModel>)> wrap_model;
};

struct EngineInfo {
  std::string backend;            // such as "cpu/avx512"
  DType dtype = DType::kBF16;     // of weights
  DType kv_dtype = DType::kBF16;  // of the KV cache
  int threads_per_rank = 1;
  bool pinned = false;
  KvSizes kv;
  int64_t max_seq_len = 0;
  std::vector<RankPlan> plans;        // by rank
  std::vector<int64_t> expert_bytes;  // by rank: of its slots and the room beside them
  std::vector<std::string> notices;   // for the user, one line each
};

// Routed (token, pick) pairs since the start.
struct ExpertLoads {
  std::map<int64_t, std::vector<int64_t>> by_expert;   // layer -> expert
  std::map<int64_t, std::vector<int64_t>> by_ep_rank;  // layer -> EP rank that computed them
};

class Engine {
 public:
  Engine(const std::filesystem::path& model_dir, const EngineConfig& config, const EngineHooks& hooks = {});
  ~Engine();

  const ModelSpec& spec() const { return setup_.spec; }
  const EngineConfig& config() const { return setup_.config; }
  const Mesh& mesh() const { return setup_.mesh; }
  const EngineInfo& info() const { return info_; }
  const std::optional<Tokenizer>& tokenizer() const { return tokenizer_; }

  // What is wrong with these requests (Error, all of it at once); nothing is run.
  void check(const std::vector<std::vector<int32_t>>& prompts, const SamplingParams& params) const;
  void check_score(const std::vector<std::vector<int32_t>>& prompts) const;

  // Thread-safe. Throws Error if the request is wrong or can never fit. Returns its id.
  uint64_t submit(std::vector<int32_t> prompt, const SamplingParams& params, RequestCallbacks callbacks,
                  const SchedulingParams& scheduling = {});
  // Soon: cached prefixes that no request uses are forgotten.
  void clear_cache();
  // Every request ends with this error, now and from now on, as if a rank had failed with it.
  void abort(const std::string& reason);
  // The request ends soon with kCancelled, unless it has ended already.
  void cancel(uint64_t id);

  using OnOutput = std::function<void(size_t index, const OutputDelta&)>;
  // Waits for all of them; results in the order of the prompts. Wrong requests: one Error with all of them, and nothing is run.
  // Throws EngineFailure if a rank fails.
  std::vector<GenerationResult> generate(const std::vector<std::vector<int32_t>>& prompts, const SamplingParams& params,
                                         const OnOutput& on_output = {});

  using OnLogits = std::function<void(size_t index, const LogitRows&)>;
  // Hands out the logits of every position of every prompt, in pieces, from several threads at once; each piece once.
  void score(const std::vector<std::vector<int32_t>>& prompts, const OnLogits& on_logits);
  // The same as one array [tokens, vocab] a prompt.
  std::vector<std::vector<float>> score(const std::vector<std::vector<int32_t>>& prompts);

  EngineStats stats() const;                // of all replicas together; without waiting for a step
  std::vector<int64_t> peak_bytes() const;  // by rank: the most that its backend ever held
  StepStats step_stats() const;             // of all replicas together
  CacheUse cache_use() const;               // of all replicas together
  double prompt_tokens_per_second() const;
  double generated_tokens_per_second() const;
  ExpertLoads expert_loads();
  // Counts of each step are kept from the next one on, for statistics files; at any time. Configured ranges (expert_statistic.iter_range)
  // begin by themselves.
  void start_expert_statistics();
  // Stops, and writes what was kept; returns the number of steps. Error if the directory cannot be written.
  int64_t stop_expert_statistics(const std::filesystem::path& directory);
  // The same for the configured range and directory; 0 steps if none is configured.
  int64_t write_expert_statistics();
  // Placement, recent loads and moves of each replica; empty for a model without routed experts.
  std::vector<ExpertStatus> expert_status() const;
  std::vector<ExpertStatus> expert_status_without_steps() const;  // at a cost that does not grow with time

 private:
  struct Waiter;
  void plan(const EngineHooks& hooks);
  void load(const EngineHooks& hooks);
  void start_balancers();
  void check_params(const SamplingParams& params) const;
  void check_scheduling(const SchedulingParams& scheduling) const;
  void check_prompt(std::span<const int32_t> prompt, int64_t max_tokens) const;
  void check_prompts(const std::vector<std::vector<int32_t>>& prompts, int64_t max_tokens) const;
  std::shared_ptr<LiveRequest> make_request(std::vector<int32_t> prompt, const SamplingParams& params,
                                            RequestCallbacks callbacks);
  std::shared_ptr<LiveRequest> make_score_request(std::vector<int32_t> prompt, RequestCallbacks callbacks);
  void submit_all(std::vector<std::shared_ptr<LiveRequest>> requests);
  std::vector<GenerationResult> run_all(std::vector<std::shared_ptr<LiveRequest>> requests, Waiter& waiter);

  ModelSetup setup_;
  std::optional<Tokenizer> tokenizer_;
  EngineInfo info_;
  SchedulerLimits limits_;
  std::atomic<uint64_t> next_id_{1};
  std::unique_ptr<RankWorld> world_;
  std::vector<std::shared_ptr<ExpertBalancer>> balancers_;  // by replica, for a model with routed experts
  std::vector<std::unique_ptr<Replica>> replicas_;
};

}  // namespace shoal
