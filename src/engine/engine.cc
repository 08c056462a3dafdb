// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <random>

#include "base/error.h"
#include "engine/expert_recording.h"
#include "engine/kv_budget.h"

namespace shoal {
namespace {

constexpr double kMostCopyRate = 1.6e10;  // bytes a second that may be copied of experts that move

KvCacheLimits cache_limits(const ModelSetup& setup, const EngineInfo& info) {
  const KvCacheConfig& config = setup.config.kv_cache;
  KvCacheLimits limits{.tokens_per_block = config.tokens_per_block,
                       .cp = setup.mesh.sizes().context,
                       .pools = {},
                       .reuse = config.enable_block_reuse,
                       .partial_reuse = config.enable_partial_reuse,
                       .copy_on_partial_reuse = config.copy_on_partial_reuse};
  const std::vector<KvPoolKind> kinds = kv_pools(setup.spec);
  for (size_t i = 0; i < kinds.size(); ++i) limits.pools.push_back({kinds[i], info.kv.pages[i]});
  return limits;
}

// With MLA a position's role decides its form, and that its bits (docs/architecture.md section 4, rule 4).
bool has_latents(const ModelSpec& spec) {
  return std::any_of(spec.layers.begin(), spec.layers.end(),
                     [](const DecoderLayer& layer) { return layer.attention.mla.has_value(); });
}

CapacityPolicy capacity_policy(const std::string& word) {
  if (word == "MAX_UTILIZATION") return CapacityPolicy::kMaxUtilization;
  return word == "STATIC_BATCH" ? CapacityPolicy::kStaticBatch : CapacityPolicy::kGuaranteedNoEvict;
}

ChunkPolicy chunk_policy(const std::string& word) {
  if (word == "EQUAL_PROGRESS") return ChunkPolicy::kEqualProgress;
  return word == "FORCE_CHUNK" ? ChunkPolicy::kForceChunk : ChunkPolicy::kFirstComeFirstServed;
}

SchedulerLimits scheduler_limits(const ModelSetup& setup, const EngineInfo& info) {
  const EngineConfig& config = setup.config;
  return {.groups = setup.mesh.sizes().attention_data,
          .pipeline = setup.mesh.sizes().pipeline,
          .overlap = !config.disable_overlap_scheduler,
          .max_batch_size = config.max_batch_size,
          .max_num_tokens = config.max_num_tokens,
          .max_seq_len = info.max_seq_len,
          .cache = cache_limits(setup, info),
          .mix_chunks = config.enable_chunked_prefill,
          .max_score_rows = most_score_rows(setup),
          .generated_roles = has_latents(setup.spec) && !config.deterministic,
          .capacity = capacity_policy(config.scheduler.capacity_scheduler_policy),
          .chunks = chunk_policy(config.scheduler.context_chunking_policy),
          .attention_dp = config.attention_dp,
          .priorities = config.scheduler.waiting_queue_policy == "priority"};
}

uint64_t request_seed(const SamplingParams& params) {
  if (params.seed) return *params.seed;
  if (params.temperature == 0.0f) return 0;
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace

// Collects the results of requests that are waited for together.
struct Engine::Waiter {
  explicit Waiter(size_t count) : results(count), left(count) {}
  std::function<void(GenerationResult)> receiver(size_t index) {
    return [this, index](GenerationResult result) {
      const std::lock_guard lock(mutex);  // held to the end: the waiting thread destroys this
      results[index] = std::move(result);
      if (--left == 0) done.notify_all();
    };
  }
  std::vector<GenerationResult> wait() {
    std::unique_lock lock(mutex);
    done.wait(lock, [&] { return left == 0; });
    return std::move(results);
  }

  std::mutex mutex;
  std::condition_variable done;
  std::vector<GenerationResult> results;
  size_t left;
};

Engine::Engine(const std::filesystem::path& model_dir, const EngineConfig& config, const EngineHooks& hooks)
    : setup_(set_up_model(model_dir, config, SetupFor::kRunning)), tokenizer_(hooks.tokenizer) {
  if (!tokenizer_ && std::filesystem::exists(model_dir / "tokenizer.json")) tokenizer_ = Tokenizer::load(model_dir);
  if (setup_.spec.has_moe() && !config.expert_statistic.iter_range.empty())
    start_statistics(config.expert_statistic.path, statistics_meta(setup_.spec), setup_.mesh.sizes().moe_expert);
  plan(hooks);
  if (hooks.on_planned) hooks.on_planned(*this);
  load(hooks);
  start_balancers();
  for (int i = 0; i < setup_.mesh.sizes().data; ++i)
    replicas_.push_back(std::make_unique<Replica>(*world_, i, limits_, balancers_.empty() ? nullptr : balancers_[i]));
  world_->when_failed([this, on_failed = hooks.on_failed](const std::string& reason) {
    for (const auto& replica : replicas_) replica->fail(reason);
    if (on_failed) on_failed(reason);
  });
}

// Starts the ranks and decides how much each will hold; nothing is read.
void Engine::plan(const EngineHooks& hooks) {
  const EngineConfig& config = setup_.config;
  const Machine machine = read_machine();
  const int ranks = setup_.mesh.world_size();
  info_.dtype = setup_.options.compute;
  info_.kv_dtype = setup_.options.cache;
  info_.threads_per_rank = threads_per_rank(config, machine);
  info_.max_seq_len = config.max_seq_len.value_or(setup_.spec.max_positions);
  info_.notices = setup_.notices;
  const BackendOptions backend_options{
      .device = config.device, .isa = config.isa, .threads = info_.threads_per_rank, .cores = {}};
  RankWorldSetup world{.mesh = setup_.mesh,
                       .hidden_size = setup_.spec.hidden,
                       .backend = backend_options,
                       .cores = pinned_cores(machine, ranks, info_.threads_per_rank),
                       .comm_timeout_s = config.comm_timeout_s,
                       .models = hooks.models};
  info_.pinned = !world.cores.front().empty();
  if (!world.models) {
    world.models = rank_models({.spec = setup_.spec,
                                .mesh = setup_.mesh,
                                .options = setup_.options,
                                .checkpoint = setup_.checkpoint.get(),
                                .load_threads = info_.threads_per_rank});
  }
  if (hooks.wrap_model) {
    world.models = [make = std::move(world.models), wrap = hooks.wrap_model](int rank, Backend& backend) {
      return wrap(rank, make(rank, backend));
    };
  }
  world_ = std::make_unique<RankWorld>(std::move(world));
  info_.plans.resize(ranks);
  info_.expert_bytes.resize(ranks);
  world_->on_all([&](RankState& state) {
    info_.plans[state.rank] = state.model->plan();
    plan_memory(setup_, state.rank, backend_options, info_.plans[state.rank]);
    if (state.rank == 0) info_.backend = state.backend->name();
  });
  info_.kv = kv_sizes({.plans = info_.plans,
                       .config = config,
                       .pools = kv_pools(setup_.spec),
                       .max_seq_len = info_.max_seq_len,
                       .available_bytes = machine.available_bytes,
                       .memory_limit = machine.memory_limit});
  limits_ = scheduler_limits(setup_, info_);
}

Engine::~Engine() {
  if (world_) world_->when_failed({});
}

void Engine::load(const EngineHooks& hooks) {
  LoadProgress progress;
  for (const RankPlan& plan : info_.plans) progress.total_bytes += plan.weight_bytes;  // about what will be read
  world_->when_failed([&](const std::string&) { progress.cancelled = true; });
  auto loaded =
      std::async(std::launch::async, [&] { world_->on_all([&](RankState& state) { state.model->load(progress); }); });
  const int64_t total = progress.total_bytes;
  try {
    while (loaded.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready)
      if (hooks.on_load) hooks.on_load(std::min<int64_t>(progress.done_bytes, total - 1), total);
  } catch (...) {
    progress.cancelled = true;
    throw;
  }
  loaded.get();
  if (hooks.on_load) hooks.on_load(total, total);
  world_->when_failed({});
  setup_.checkpoint.reset();
  world_->on_all([this](RankState& state) {
    state.model->allocate_kv(info_.kv.pages);
    state.model->connect({.attn = state.attn.get(),
                          .cp = state.cp.get(),
                          .ffn_tp = state.ffn_tp.get(),
                          .moe = state.moe.get(),
                          .pp = state.pp.get()});
  });
}

void Engine::start_balancers() {
  if (!setup_.spec.has_moe()) return;
  const Mesh& mesh = setup_.mesh;
  std::vector<ExpertShelf> shelves(mesh.sizes().data);
  std::mutex mutex;
  world_->on_all([&](RankState& state) {
    const std::lock_guard lock(mutex);
    ExpertShelf& shelf = shelves[state.at.dp];
    const int rank = state.rank % mesh.replica_size();
    shelf.room[rank] = state.model->expert_room();
    for (const ExpertWeights& room : shelf.room[rank]) info_.expert_bytes[state.rank] += room.bytes();
    for (const auto& [layer, picks] : state.model->expert_picks()) {
      ExpertShelf::Layer& held = shelf.layers[layer];
      held.placement = state.model->placement(layer);
      for (int64_t slot = 0; slot < held.placement->slots_per_rank(); ++slot) {
        held.slots[rank].push_back(state.model->expert_weights(layer, slot));
        info_.expert_bytes[state.rank] += held.slots[rank].back().bytes();
      }
    }
  });
  BalancerSettings settings;
  if (const auto& config = setup_.config.moe.load_balancer; config && config->layer_updates_per_iter > 0) {
    settings.online = true;
    settings.layers = config->layer_updates_per_iter;
    settings.copies = {.seconds = config->max_stall_ms * 1e-3,
                       .bytes = static_cast<int64_t>(config->max_stall_ms * 1e-3 * kMostCopyRate)};
    settings.backend = {.device = setup_.config.device, .isa = setup_.config.isa, .threads = 1, .cores = {}};
  }
  for (ExpertShelf& shelf : shelves)
    balancers_.push_back(std::make_shared<ExpertBalancer>(mesh, std::move(shelf), settings));
  if (const std::string& range = setup_.config.expert_statistic.iter_range; !range.empty()) {
    const StepRange steps = parse_step_range(range);
    for (const auto& balancer : balancers_) balancer->record(steps.begin, steps.end);
  }
}

void Engine::check_prompt(std::span<const int32_t> prompt, int64_t max_tokens) const {
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] >= 0 && prompt[i] < setup_.spec.vocab) continue;
    throw Error(ErrorKind::kInvalid,
                fmt::format("token id {} at position {} of the prompt is not in the vocabulary [0, {})", prompt[i], i,
                            setup_.spec.vocab));
  }
  const std::string problem = Scheduler::never_fits(limits_, static_cast<int64_t>(prompt.size()), max_tokens);
  if (!problem.empty()) throw Error(ErrorKind::kLimit, problem);
}

void Engine::check_params(const SamplingParams& params) const {
  Problems problems;
  problems.append(sampling_problems(params));
  for (const auto& [token, bias] : params.logit_bias)
    if (token < 0 || token >= setup_.spec.vocab)
      problems.add(
          fmt::format("logit_bias names token {}, which is not in the vocabulary [0, {})", token, setup_.spec.vocab));
  if (!params.stop.empty() && !tokenizer_)
    problems.add("stop strings need a tokenizer.json beside the model, which has none");
  if (problems.list().size() == 1) throw Error(ErrorKind::kInvalid, problems.list().front());
  problems.throw_if_any("the request is wrong:");
}

void Engine::check_prompts(const std::vector<std::vector<int32_t>>& prompts, int64_t max_tokens) const {
  Problems problems;
  for (size_t i = 0; i < prompts.size(); ++i) {
    try {
      check_prompt(prompts[i], max_tokens);
    } catch (const Error& error) {
      if (prompts.size() == 1) throw;
      problems.add(fmt::format("prompt {}: {}", i, error.what()));
    }
  }
  problems.throw_if_any(fmt::format("{} of {} prompts cannot be run:", problems.list().size(), prompts.size()));
}

void Engine::check(const std::vector<std::vector<int32_t>>& prompts, const SamplingParams& params) const {
  check_params(params);
  check_prompts(prompts, params.max_tokens);
}

void Engine::check_score(const std::vector<std::vector<int32_t>>& prompts) const { check_prompts(prompts, 0); }

std::shared_ptr<LiveRequest> Engine::make_request(std::vector<int32_t> prompt, const SamplingParams& params,
                                                  RequestCallbacks callbacks) {
  check_params(params);
  check_prompt(prompt, params.max_tokens);
  const auto request = std::make_shared<LiveRequest>();
  request->id = next_id_++;
  request->prompt_tokens = std::ssize(prompt);
  request->max_tokens = params.max_tokens;
  request->callbacks = std::move(callbacks);
  if (!params.ignore_eos) request->stop_ids = setup_.spec.stop_ids;
  request->stop_ids.insert(request->stop_ids.end(), params.stop_token_ids.begin(), params.stop_token_ids.end());
  request->sampler = std::make_unique<Sampler>(params, request_seed(params), prompt, request->stop_ids);
  request->text = std::make_unique<OutputText>(tokenizer_, prompt, params);
  request->result.prompt_token_ids = prompt;
  request->tokens = std::move(prompt);
  return request;
}

std::shared_ptr<LiveRequest> Engine::make_score_request(std::vector<int32_t> prompt, RequestCallbacks callbacks) {
  check_prompt(prompt, 0);
  const auto request = std::make_shared<LiveRequest>();
  request->id = next_id_++;
  request->prompt_tokens = std::ssize(prompt);
  request->all_logits = true;
  request->callbacks = std::move(callbacks);
  request->tokens = std::move(prompt);
  return request;
}

void Engine::submit_all(std::vector<std::shared_ptr<LiveRequest>> requests) {
  std::vector<int64_t> loads;
  for (const auto& replica : replicas_) loads.push_back(replica->load_tokens());
  std::vector<std::vector<std::shared_ptr<LiveRequest>>> shares(replicas_.size());
  for (auto& request : requests) {
    const auto least = std::min_element(loads.begin(), loads.end()) - loads.begin();
    loads[least] += request->prompt_tokens + request->max_tokens;
    shares[least].push_back(std::move(request));
  }
  for (size_t i = 0; i < shares.size(); ++i)
    if (!shares[i].empty()) replicas_[i]->submit(std::move(shares[i]));
}

void Engine::check_scheduling(const SchedulingParams& scheduling) const {
  Problems problems;
  if (!(scheduling.priority >= 0.0 && scheduling.priority <= 1.0))
    problems.add(fmt::format("priority is {}; it must be from 0 to 1", scheduling.priority));
  const int groups = setup_.mesh.sizes().attention_data;
  const int rank = scheduling.attention_dp_rank.value_or(0);
  if (rank < 0 || rank >= groups)
    problems.add(fmt::format("attention_dp_rank is {}; there are {} attention-DP groups: use 0 to {}", rank, groups,
                             groups - 1));
  if (problems.list().size() == 1) throw Error(ErrorKind::kInvalid, problems.list().front());
  problems.throw_if_any("the request is wrong:");
}

uint64_t Engine::submit(std::vector<int32_t> prompt, const SamplingParams& params, RequestCallbacks callbacks,
                        const SchedulingParams& scheduling) {
  check_scheduling(scheduling);
  CHECK(static_cast<bool>(callbacks.on_finish));
  const bool score = static_cast<bool>(callbacks.on_logits);
  auto request = score ? make_score_request(std::move(prompt), std::move(callbacks))
                       : make_request(std::move(prompt), params, std::move(callbacks));
  request->priority = scheduling.priority;
  request->cache_salt = scheduling.cache_salt;
  request->attention_dp_rank = scheduling.attention_dp_rank;
  request->attention_dp_relax = scheduling.attention_dp_relax;
  const uint64_t id = request->id;
  submit_all({std::move(request)});
  return id;
}

void Engine::clear_cache() {
  for (const auto& replica : replicas_) replica->clear_cache();
}

void Engine::abort(const std::string& reason) { world_->abort(reason); }

void Engine::cancel(uint64_t id) {
  for (const auto& replica : replicas_) replica->cancel(id);
}

std::vector<GenerationResult> Engine::run_all(std::vector<std::shared_ptr<LiveRequest>> requests, Waiter& waiter) {
  submit_all(std::move(requests));
  std::vector<GenerationResult> results = waiter.wait();
  if (const auto failure = world_->failure()) throw EngineFailure(*failure);
  return results;
}

std::vector<GenerationResult> Engine::generate(const std::vector<std::vector<int32_t>>& prompts,
                                               const SamplingParams& params, const OnOutput& on_output) {
  check(prompts, params);
  Waiter waiter(prompts.size());
  std::mutex one_at_a_time;
  std::vector<std::shared_ptr<LiveRequest>> requests;
  for (size_t i = 0; i < prompts.size(); ++i) {
    RequestCallbacks callbacks{.on_output = {}, .on_logits = {}, .on_finish = waiter.receiver(i)};
    if (on_output) {
      callbacks.on_output = [&, i](const OutputDelta& delta) {
        const std::lock_guard lock(one_at_a_time);
        on_output(i, delta);
      };
    }
    requests.push_back(make_request(prompts[i], params, std::move(callbacks)));
  }
  return run_all(std::move(requests), waiter);
}

void Engine::score(const std::vector<std::vector<int32_t>>& prompts, const OnLogits& on_logits) {
  check_score(prompts);
  Waiter waiter(prompts.size());
  std::vector<std::shared_ptr<LiveRequest>> requests;
  for (size_t i = 0; i < prompts.size(); ++i) {
    requests.push_back(
        make_score_request(prompts[i], {.on_output = {},
                                        .on_logits = [&, i](const LogitRows& rows) { on_logits(i, rows); },
                                        .on_finish = waiter.receiver(i)}));
  }
  for (const GenerationResult& result : run_all(std::move(requests), waiter))
    if (result.finish_reason == FinishReason::kError) throw EngineFailure(result.error);
}

std::vector<std::vector<float>> Engine::score(const std::vector<std::vector<int32_t>>& prompts) {
  const int64_t vocab = setup_.spec.vocab;
  std::vector<std::vector<float>> logits(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) logits[i].resize(prompts[i].size() * vocab);
  score(prompts, [&](size_t index, const LogitRows& rows) {
    std::copy(rows.values.begin(), rows.values.end(), logits[index].begin() + rows.first * vocab);
  });
  return logits;
}

}  // namespace shoal
