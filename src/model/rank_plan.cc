// SPDX-License-Identifier: Apache-2.0
#include "model/rank_plan.h"

#include <algorithm>

namespace shoal {

namespace {

constexpr double kF32 = 4.0;

void add_collective(RankPlan& plan, const std::string& operation, const std::string& group, double bytes_per_token) {
  for (RankPlan::Collective& collective : plan.collectives) {
    if (collective.operation != operation || collective.group != group) continue;
    ++collective.per_step;
    collective.bytes_per_token += bytes_per_token;
    return;
  }
  plan.collectives.push_back({operation, group, 1, bytes_per_token});
}

// Sent by one rank for each token of its attention-DP group: an all-reduce of n ranks sends 2 (n - 1) / n of the row
// (reduce-scatter and gather), a gather (n - 1) / n.
double all_reduce_bytes(double row, int ranks) { return 2.0 * row * (ranks - 1) / ranks; }

// Expected distinct EP ranks, other than itself, that a token of top_k evenly spread picks reaches, times the MoE-TP
// ranks of each.
double exchange_targets(const MoeLayer& moe, const GridSizes& sizes) {
  const double ep = sizes.moe_expert;
  double missed = 1.0;
  for (int64_t k = 0; k < moe.top_k; ++k) missed *= (ep - 1.0) / ep;
  const double columns = ep * (1.0 - missed);
  return columns * sizes.moe_tensor * (1.0 - 1.0 / (ep * sizes.moe_tensor));
}

// What attention sends with context parallelism, for each token of a step that is a whole prompt, or is generated.
struct ContextCost {
  double cache_row = 0;   // bytes of a position's keys and values on this rank, one layer
  double values_row = 0;  // bytes of a row's values, maxima and sums, all heads of this rank
  double query_row = 0;   // bytes of a row's queries
  int ranks = 1;

  double others() const { return static_cast<double>(ranks - 1) / ranks; }
  void send(RankPlan& plan, const ContextSchemes& schemes) const {
    for (const ContextScheme scheme : {schemes.prefill, schemes.decode}) {
      if (scheme == ContextScheme::kRing) add_collective(plan, "send", "cp", cache_row * others());
      if (scheme == ContextScheme::kUlysses)
        add_collective(plan, "all_to_all", "cp", (query_row + cache_row) * others() / ranks);
      if (scheme == ContextScheme::kHelix) add_collective(plan, "all_to_all", "cp", values_row * others());
    }
  }
};

struct LayerCounts {
  const DecoderLayer& layer;
  const DecoderBlock& block;
};

void add_layer(RankPlan& plan, const LayerCounts& counts, const BuildContext& build) {
  const Mesh& mesh = build.mesh;
  const double row = static_cast<double>(build.spec.hidden) * kF32;
  const int attn = mesh.place(Axis::kAttn, build.rank).size, stage = mesh.stage_size();
  const int ffn_tp = static_cast<int>(mesh.group(Axis::kFfnTp, build.rank).size());
  if (attn > 1) add_collective(plan, "all_reduce", "attn", all_reduce_bytes(row, attn));
  if (!counts.layer.moe) {
    if (ffn_tp > 1) add_collective(plan, "all_reduce", "ffn_tp", all_reduce_bytes(row, ffn_tp));
    return;
  }
  if (stage == 1) return;
  if (!counts.block.moe()->exchanges()) {
    add_collective(plan, "all_reduce", "moe",
                   all_reduce_bytes(row * (counts.layer.moe->shared_ffn > 0 ? 2.0 : 1.0), stage));
    return;
  }
  if (counts.block.moe()->placement().replicated())
    add_collective(plan, "all_gather_counts", "moe", 0);  // E numbers, however many tokens
  const double targets = exchange_targets(*counts.layer.moe, mesh.sizes()) / attn;
  const double back =
      build.options.deterministic ? static_cast<double>(counts.layer.moe->top_k) / std::max(targets * attn, 1.0) : 1.0;
  add_collective(plan, "dispatch", "moe", targets * row);
  add_collective(plan, "combine", "moe", targets * row * back);
  if (attn > 1) add_collective(plan, "all_gather", "attn", row * (attn - 1) / attn);
  if (counts.layer.moe->shared_ffn > 0 && ffn_tp > 1)
    add_collective(plan, "all_reduce", "ffn_tp", all_reduce_bytes(row, ffn_tp));
}

void add_context(RankPlan& plan, const LayerCounts& counts, int64_t kv_bytes, const BuildContext& build) {
  const int ranks = build.mesh.sizes().context;
  if (ranks == 1) return;
  const AttentionLayer& layer = counts.layer.attention;
  const int64_t v_dim = layer.mla ? layer.mla->kv_lora_rank : layer.v_dim;
  const ContextCost cost{.cache_row = static_cast<double>(kv_bytes),
                         .values_row = static_cast<double>(plan.heads * (v_dim + 2)) * kF32,
                         .query_row = static_cast<double>(plan.heads * layer.head_dim) * kF32,
                         .ranks = ranks};
  cost.send(plan, build.options.context);
}

void add_ends(RankPlan& plan, const Decoder& decoder, const BuildContext& build) {
  const double row = static_cast<double>(build.spec.hidden) * kF32;
  const int attn = build.mesh.place(Axis::kAttn, build.rank).size;
  if (decoder.first_stage() && attn > 1) add_collective(plan, "all_reduce", "attn", all_reduce_bytes(row, attn));
  if (!decoder.last_stage()) add_collective(plan, "send", "pp", row);
  if (decoder.last_stage() && attn > 1)
    add_collective(plan, "all_gather_columns", "attn",
                   static_cast<double>(build.spec.vocab) * kF32 * (attn - 1) / attn);
}

}  // namespace

int64_t RankPlan::kv_bytes(std::span<const int64_t> pages, int64_t tokens_per_block) const {
  CHECK_EQ(pages.size(), kv_pool_bytes_per_token.size());
  int64_t bytes = 0;
  for (size_t pool = 0; pool < pages.size(); ++pool)
    bytes += pages[pool] * tokens_per_block * kv_pool_bytes_per_token[pool];
  return bytes;
}

RankPlan make_rank_plan(const Decoder& decoder, const BuildContext& build, const Backend& backend) {
  RankPlan plan;
  plan.layers = decoder.layers();
  plan.weight_bytes = build.weights.bytes(backend);
  plan.kv_pool_bytes_per_token.resize(kv_pools(build.spec).size());
  for (size_t i = 0; i < decoder.blocks().size(); ++i) {
    const int64_t index = plan.layers.begin + static_cast<int64_t>(i);
    const DecoderLayer& layer = build.spec.layers[index];
    const DecoderBlock& block = decoder.blocks()[i];
    const Attention::KvShape kv = block.attention().kv_shape();
    plan.heads = layer.attention.heads / build.mesh.attn_tp_size();
    plan.kv_heads = kv.kv_heads;
    const int64_t kv_bytes =
        kv.kv_heads * (kv.k_dim + kv.v_dim) * static_cast<int64_t>(dtype_bytes(build.options.cache));
    plan.kv_pool_bytes_per_token[kv.pool] += kv_bytes;
    plan.kv_bytes_per_token += kv_bytes;
    if (block.moe())
      for (const ExpertId expert : block.moe()->placement().on_rank(block.moe()->ep_rank()))
        plan.experts[index].push_back(expert.value);
    add_layer(plan, {layer, block}, build);
    add_context(plan, {layer, block}, kv_bytes, build);
  }
  add_ends(plan, decoder, build);
  return plan;
}

}  // namespace shoal
