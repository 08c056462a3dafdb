// SPDX-License-Identifier: Apache-2.0
// RankModel: what one rank holds and computes of a model: its stage's layers, its slices, its experts. Used by that
// rank's thread only (loading may use helper threads). Life: construct (declares weights, reads nothing) -> plan() ->
// load -> allocate_kv -> connect -> forward, step after step.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/ops.h"
#include "comm/comm.h"
#include "model/expert_moves.h"
#include "model/spec.h"
#include "model/step.h"
#include "parallel/context.h"
#include "parallel/mesh.h"

namespace shoal {

class Checkpoint;

struct ModelOptions {
  DType compute = DType::kBF16;  // kF32 or kBF16: of weights in products
  DType cache = DType::kBF16;    // kF32, kBF16 or kF8E4M3: of the KV cache
  bool deterministic = false;    // contract section 4, rules 4 and 5
  int64_t max_seq_len = 0;       // 0: the model's
  int64_t tokens_per_block = 32;
  int64_t moe_max_num_tokens = 0;  // tokens, summed over ranks, per MoE call; 0: no bound
  int64_t most_tokens =
      0;  // of a step, per attention-DP group; 0: not known, and experts may be asked as unevenly as can be
  std::vector<int64_t> pp_partition;
  ContextSchemes context;  // with context parallelism
  // What the experts' slots hold at first, by layer; absent: every expert once, Placement::contiguous.
  std::map<int64_t, Placement> placements;
  bool movable_experts = false;  // while requests run: each rank keeps room for the slots of one layer more
  bool keep_selections = false;  // LayerPicks::selections
};

// What a rank will hold and say, known before anything is read.
struct RankPlan {
  Range layers;
  int64_t heads = 0;                                // per layer, on this rank
  int64_t kv_heads = 0;                             // (1 for MLA's latent cache)
  std::map<int64_t, std::vector<int32_t>> experts;  // layer -> expert of each local slot, -1 empty
  int64_t weight_bytes = 0;
  std::vector<int64_t> kv_pool_bytes_per_token;  // by kv_pools(), all layers of the pool together
  int64_t kv_bytes_per_token = 0;                // their sum: a token that no pool has let go of
  struct Collective {
    std::string operation;  // all_reduce, all_gather, dispatch, ...
    std::string group;      // attn, moe, pp, ...
    int64_t per_step = 0;
    double bytes_per_token = 0;  // sent by this rank, all calls of a step together
  };
  std::vector<Collective> collectives;
  // Of `pages` pages of each pool.
  int64_t kv_bytes(std::span<const int64_t> pages, int64_t tokens_per_block) const;
  // Of the longest step (rank_memory() in model/step_memory.h), and of the groups' own buffers.
  int64_t activation_bytes = 0;
  int64_t comm_bytes = 0;
};

// Groups of one rank; owned by the engine. Groups of size 1 are present too.
struct RankGroups {
  Comm* attn = nullptr;
  Comm* cp = nullptr;
  Comm* ffn_tp = nullptr;
  Comm* moe = nullptr;
  Comm* pp = nullptr;
};

// Counts bytes read, over all ranks; shown as a progress bar.
struct LoadProgress {
  std::atomic<int64_t> done_bytes{0};
  std::atomic<int64_t> total_bytes{0};
  std::atomic<bool> cancelled{false};  // set when another rank failed
};

class RankModel {
 public:
  RankModel(const ModelSpec& spec, const Mesh& mesh, int rank, const ModelOptions& options, Backend& backend);
  ~RankModel();

  const RankPlan& plan() const;
  // Reads this rank's slices with up to `threads` threads.
  void load(const Checkpoint& checkpoint, int threads, LoadProgress& progress);
  // Takes the memory of weights and tables, and leaves what lies there: nothing can be computed.
  void reserve();
  // Random weights of the right shapes, the same whatever the layout (load_format: dummy).
  void load_dummy(uint64_t seed, int threads, LoadProgress& progress);
  // Pages of each of kv_pools(); with context parallelism, of those that this rank owns.
  void allocate_kv(std::span<const int64_t> pages);
  void connect(const RankGroups& groups);

  bool first_stage() const;
  bool last_stage() const;
  int64_t hidden_size() const;
  // One step through this stage. `hidden`: f32 [tokens, hidden] from the previous stage, undefined on the first;
  // returns the residual stream.
  Tensor forward(const StepPlan& plan, const Tensor& hidden);
  // Last stage: f32 [logit_rows, vocab] of this rank's attention-DP group, whole on every rank of the
  // attention group.
  Tensor logits(const StepPlan& plan, const Tensor& hidden);

  // Of the stage's layers with experts. Each pick is counted in `by_expert` on one rank of the stage.
  const std::map<int64_t, LayerPicks>& expert_picks() const;

  // After load: what the slots hold now, and room for as many experts as a layer has slots here (ModelOptions::movable_experts).
  std::shared_ptr<const Placement> placement(int64_t layer) const;
  ExpertWeights expert_weights(int64_t layer, int64_t local_slot) const;
  std::vector<ExpertWeights> expert_room() const;
  // Before a step: layers of this stage begin to use another placement.
  void place_experts(std::span<const LayerFlip> flips);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Before any weight is read: every tensor the model needs is in the checkpoint with the right shape and type, and
// nothing else is. Returns one line per problem, and in `notices` what is skipped on purpose.
std::vector<std::string> checkpoint_problems(const ModelSpec& spec, const Checkpoint& checkpoint,
                                             std::vector<std::string>& notices);

// Limits that the layout's sizes must respect for this model (heads divisible by attn_tp, experts >= ep, ...), all of
// them.
std::vector<std::string> layout_problems(const ModelSpec& spec, const GridSizes& sizes,
                                         const std::vector<int64_t>& pp_partition);

}  // namespace shoal
