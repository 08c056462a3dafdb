// SPDX-License-Identifier: Apache-2.0
#include "engine/model_setup.h"

#include <fmt/format.h>

#include <algorithm>

#include "backend/factory.h"
#include "base/error.h"
#include "base/whole.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

// What `dtype` means for a model; docs/numerics.md has the figures behind `auto`.
struct Types {
  DType weights;
  DType cache;
  int activation_bits;  // that products keep at least
};

constexpr int kAllBits = 24, kRouterBits = 17, kBf16Bits = 8;

// `auto` rounds nothing that a router would notice: where two experts are nearly tied, a rounding anywhere before it changes which one is
// asked. FP8 values times their scales are no bf16 numbers.
Types types_of(const EngineConfig& config, const ModelSpec& spec) {
  if (config.dtype == "float32") return {DType::kF32, DType::kF32, kAllBits};
  if (config.dtype == "bfloat16") return {DType::kBF16, DType::kBF16, kBf16Bits};
  return {spec.fp8_weights ? DType::kF32 : DType::kBF16, spec.has_moe() ? DType::kF32 : DType::kBF16,
          spec.has_moe() ? kRouterBits : kBf16Bits};
}

constexpr int64_t kScoreBytes = int64_t{64} << 20;  // of logits that one scoring step may take on a rank

// The best instruction-set path for these types, if none is asked for.
std::string isa_of(const EngineConfig& config, const Types& types) {
  if (!config.isa.empty() || config.device != "cpu" || types.activation_bits <= kBf16Bits) return config.isa;
  for (const std::string& isa : available_isas())
    if (activation_bits(isa) >= types.activation_bits) return isa;
  return config.isa;
}

MoeShape moe_shape(const ModelSpec& spec, const GridSizes& grid) {
  MoeShape shape{.experts = 0, .ep = grid.moe_expert, .layers = {}, .model_layers = std::ssize(spec.layers)};
  for (size_t layer = 0; layer < spec.layers.size(); ++layer) {
    if (!spec.layers[layer].moe) continue;
    shape.experts = spec.layers[layer].moe->experts;
    shape.layers.push_back(static_cast<int64_t>(layer));
  }
  return shape;
}

ModelOptions model_options(const ModelSetup& setup, const Types& types) {
  const EngineConfig& config = setup.config;
  return {.compute = types.weights,
          .cache = config.kv_cache.dtype == "fp8" ? DType::kF8E4M3 : types.cache,
          .deterministic = config.deterministic,
          .max_seq_len = config.max_seq_len.value_or(0),
          .tokens_per_block = config.kv_cache.tokens_per_block,
          .moe_max_num_tokens = config.moe.max_num_tokens,
          .most_tokens = longest_step(setup).rows,
          .pp_partition = config.pp_partition,
          .context = config.cp.schemes(),
          .placements = {},
          .keep_selections = config.expert_statistic.token_selections};
}

void check_sizes(const ModelSetup& setup, Problems& problems) {
  const EngineConfig& config = setup.config;
  if (config.max_seq_len && *config.max_seq_len > setup.spec.max_positions) {
    problems.add(fmt::format("max_seq_len is {}; the model has {} positions; use at most that many",
                             *config.max_seq_len, setup.spec.max_positions));
  }
  const auto isas = available_isas();
  if (!config.isa.empty() && config.device == "cpu" && std::find(isas.begin(), isas.end(), config.isa) == isas.end())
    problems.add(fmt::format("isa is {}; this machine has {}", config.isa, fmt::join(isas, ", ")));
}

void check_weights(ModelSetup& setup, Problems& problems) {
  setup.checkpoint = Checkpoint::open(setup.model_dir, setup.spec.fp8_block_rows, setup.spec.fp8_block_columns);
  problems.append(checkpoint_problems(setup.spec, *setup.checkpoint, setup.notices));
}

}  // namespace

ModelSetup set_up_model(const fs::path& model_dir, const EngineConfig& config, SetupFor purpose) {
  if (!fs::is_directory(model_dir)) {
    throw Error(ErrorKind::kInvalid,
                fmt::format("{} is not a directory; give a model directory with config.json and *.safetensors",
                            model_dir.string()));
  }
  ModelSetup setup;
  setup.model_dir = model_dir;
  setup.config = config;
  setup.notices = config.notices;
  setup.spec = load_model_spec(model_dir);
  const GridSizes grid = config.grid();
  Problems problems;
  problems.append(grid_problems(grid));
  if (problems.empty()) problems.append(layout_problems(setup.spec, grid, config.pp_partition));
  if (config.moe.load_balancer && problems.empty())
    problems.append(load_balancer_problems(*config.moe.load_balancer, moe_shape(setup.spec, grid), setup.notices));
  check_sizes(setup, problems);
  if (purpose == SetupFor::kRunning && config.load_format != "dummy") check_weights(setup, problems);
  problems.throw_if_any(fmt::format("{} cannot be {} with this configuration:", model_dir.string(),
                                    purpose == SetupFor::kRunning ? "run" : "laid out"));
  setup.mesh = Mesh(grid);
  const Types types = types_of(config, setup.spec);
  setup.options = model_options(setup, types);
  setup.config.isa = isa_of(config, types);
  if (const auto& balancer = config.moe.load_balancer) {
    const MoeShape shape = moe_shape(setup.spec, grid);
    for (const int64_t layer : shape.layers)
      setup.options.placements.emplace(layer, initial_placement(*balancer, layer, shape));
    setup.options.movable_experts = balancer->layer_updates_per_iter > 0;
  }
  const bool moe_sizes =
      config.moe_tensor_parallel_size.value_or(-1) > 1 || config.moe_expert_parallel_size.value_or(-1) > 1;
  if (moe_sizes && !setup.spec.has_moe())
    setup.notices.push_back(
        "the model has no routed experts: moe_tensor_parallel_size and moe_expert_parallel_size change nothing");
  return setup;
}

int threads_per_rank(const EngineConfig& config, const Machine& machine) {
  if (config.threads_per_rank > 0) return static_cast<int>(config.threads_per_rank);
  const Mesh mesh(config.grid());
  return std::max(1, machine.usable_cores / mesh.world_size());
}

int64_t most_score_rows(const ModelSetup& setup) {
  const int64_t row_bytes = setup.spec.vocab * static_cast<int64_t>(sizeof(float));
  return std::max<int64_t>(1, kScoreBytes / row_bytes);
}

StepSize longest_step(const ModelSetup& setup) {
  const EngineConfig& config = setup.config;
  const int64_t length = config.max_seq_len.value_or(setup.spec.max_positions);
  int64_t rows = std::min(config.max_num_tokens, config.max_batch_size * length);
  if (const auto cached = config.kv_cache.max_tokens) {  // a row has a place in the cache
    const int64_t pages = config.kv_cache.tokens_per_block * config.context_parallel_size;
    rows = std::min(rows, ceil_div(*cached, pages) * pages);
  }
  const int64_t sequences = std::min(config.max_batch_size, rows);
  return {.rows = rows,
          .sequences = sequences,
          .context = length,
          .logit_rows = std::min(rows, std::max(sequences, most_score_rows(setup)))};
}

void plan_memory(const ModelSetup& setup, int rank, const BackendOptions& backend, RankPlan& plan) {
  const RankMemory memory = rank_memory({.spec = setup.spec,
                                         .mesh = setup.mesh,
                                         .options = setup.options,
                                         .backend = backend,
                                         .step = longest_step(setup)},
                                        rank);
  plan.activation_bytes = memory.kept_bytes - plan.weight_bytes + memory.step_bytes;
  plan.comm_bytes = memory.comm_bytes;
}

std::vector<RankPlan> plan_ranks(const ModelSetup& setup, int threads) {
  const BackendOptions options{.device = setup.config.device, .isa = setup.config.isa, .threads = threads, .cores = {}};
  const auto backend = make_backend({.device = options.device, .isa = options.isa, .threads = 1, .cores = {}});
  std::vector<RankPlan> plans;
  for (int rank = 0; rank < setup.mesh.world_size(); ++rank) {
    RankPlan plan = RankModel(setup.spec, setup.mesh, rank, setup.options, *backend).plan();
    // Ranks of the same layers and slices take the same.
    const auto same = std::find_if(plans.begin(), plans.end(), [&](const RankPlan& other) {
      return other.layers == plan.layers && other.heads == plan.heads && other.weight_bytes == plan.weight_bytes;
    });
    if (same == plans.end()) {
      plan_memory(setup, rank, options, plan);
    } else {
      plan.activation_bytes = same->activation_bytes;
      plan.comm_bytes = same->comm_bytes;
    }
    plans.push_back(std::move(plan));
  }
  return plans;
}

}  // namespace shoal
