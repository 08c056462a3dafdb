// SPDX-License-Identifier: Apache-2.0
#include "server/status.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <numeric>

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

// Of worlds with more ranks the matrix would be most of the answer.
constexpr size_t kMostRanksOfTraffic = 64;

RankFacts rank_facts(const Engine& engine, int rank) {
  const RankPlan& plan = engine.info().plans[rank];
  const EngineConfig& config = engine.config();
  return {.at = engine.mesh().at(rank),
          .layers = plan.layers,
          .heads = plan.heads,
          .kv_heads = plan.kv_heads,
          .slots_per_layer = plan.experts.empty() ? 0 : std::ssize(plan.experts.begin()->second),
          .weight_bytes = plan.weight_bytes,
          .expert_bytes = engine.info().expert_bytes[rank],
          .kv_bytes = plan.kv_bytes(engine.info().kv.pages, config.kv_cache.tokens_per_block),
          .activation_bytes = plan.activation_bytes};
}

Json sizes_json(const GridSizes& sizes) {
  return {{"dp", sizes.data},
          {"pp", sizes.pipeline},
          {"cp", sizes.context},
          {"tp", sizes.tensor},
          {"attention_dp", sizes.attention_data},
          {"moe_tp", sizes.moe_tensor},
          {"moe_ep", sizes.moe_expert}};
}

Json rank_json(const RankFacts& facts, const RankStats& stats, const char* state) {
  const int64_t sent = std::accumulate(stats.sent_bytes.begin(), stats.sent_bytes.end(), int64_t{0});
  return {{"rank", stats.rank},
          {"host", "local"},
          {"dp", facts.at.dp},
          {"pp", facts.at.pp},
          {"cp", facts.at.cp},
          {"tp", facts.at.tp},
          {"attn_dp", facts.at.attn_dp},
          {"moe_tp", facts.at.moe_tp},
          {"moe_ep", facts.at.moe_ep},
          {"layers", {facts.layers.begin, facts.layers.end - 1}},
          {"heads", facts.heads},
          {"kv_heads", facts.kv_heads},
          {"state", state},
          {"steps", stats.steps},
          {"tokens", stats.tokens},
          {"compute_seconds", stats.compute_seconds},
          {"communication_seconds", stats.communication_seconds},
          {"stage_seconds", stats.stage_seconds},
          {"idle_seconds", stats.idle_seconds},
          {"bubble", stats.bubble()},
          {"last_step_age_seconds", stats.last_step_age_seconds},
          {"in_step_seconds", stats.in_step_seconds},
          {"bytes_sent", sent},
          {"weight_bytes", facts.weight_bytes},
          {"expert_bytes", facts.expert_bytes},
          {"kv_bytes", facts.kv_bytes},
          {"activation_bytes", facts.activation_bytes},
          {"slots_per_layer", facts.slots_per_layer}};
}

// Of an engine that is gone, too.
const char* state_of(const ServerStatus& server, const RankStats& rank) {
  if (server.failed_rank == rank.rank) return "failed";
  return server.state == "loading" ? "loading" : rank_state(rank, server.stall_seconds);
}

void add_engine(Json& json, const ServerStatus& server, const EngineReading& engine) {
  const CacheUse& cache = engine.stats.cache;
  json["requests"] = {{"running", engine.stats.requests.running},
                      {"waiting", engine.stats.requests.waiting},
                      {"oldest_waiting_seconds", server.oldest_waiting_seconds}};
  json["kv"] = {{"total_pages", cache.total_pages},
                {"used_pages", cache.used_pages},
                {"cached_pages", cache.cached_pages},
                {"tokens_per_page", engine.facts.tokens_per_page},
                {"preemptions", cache.preemptions},
                {"reused_tokens", cache.stats.reused_tokens},
                {"computed_tokens", cache.stats.computed_tokens}};
  json["ranks"] = Json::array();
  for (size_t rank = 0; rank < engine.stats.ranks.size(); ++rank) {
    const RankStats& stats = engine.stats.ranks[rank];
    json["ranks"].push_back(rank_json(engine.facts.ranks[rank], stats, state_of(server, stats)));
  }
  if (engine.stats.ranks.size() > kMostRanksOfTraffic) return;
  json["traffic"] = Json::array();
  for (const RankStats& stats : engine.stats.ranks) json["traffic"].push_back(stats.sent_bytes);
}

Json layer_json(int64_t layer, const ExpertStatus& status) {
  const auto loads = [layer](const std::map<int64_t, std::vector<double>>& by_layer) {
    const auto found = by_layer.find(layer);
    return found == by_layer.end() ? std::vector<double>{} : found->second;
  };
  const std::vector<double> by_rank = loads(status.by_ep_rank);
  return {{"layer", layer},
          {"slots", status.slots.at(layer)},
          {"expert_tokens", loads(status.by_expert)},
          {"rank_tokens", by_rank},
          {"max_over_mean", max_over_mean(by_rank)}};
}

Json replica_json(size_t dp, const ExpertStatus& status) {
  Json layers = Json::array();
  for (const auto& [layer, slots] : status.slots) layers.push_back(layer_json(layer, status));
  const Imbalance now = imbalance({status}).value_or(Imbalance{});
  return {{"dp", dp},
          {"layers", std::move(layers)},
          {"max_over_mean", {{"worst", now.worst}, {"mean", now.mean}}},
          {"plans", status.plans},
          {"moves", {{"layers", status.moves.layers}, {"copies", status.moves.copies}, {"bytes", status.moves.bytes}}},
          {"longest_wait_ms", status.longest_wait_ms},
          {"planning_seconds", status.planning_seconds},
          {"online", status.online}};
}

}  // namespace

EngineFacts engine_facts(const Engine& engine) {
  const EngineInfo& info = engine.info();
  EngineFacts facts{.layout = layout_text(engine.mesh().sizes(), engine.spec().has_moe()),
                    .sizes = engine.mesh().sizes(),
                    .dtype = std::string(dtype_name(info.dtype)),
                    .kv_dtype = std::string(dtype_name(info.kv_dtype)),
                    .backend = info.backend,
                    .max_seq_len = info.max_seq_len,
                    .tokens_per_page = engine.config().kv_cache.tokens_per_block,
                    .threads_per_rank = info.threads_per_rank,
                    .prefix_reuse = engine.config().kv_cache.enable_block_reuse,
                    .ranks = {}};
  for (const DecoderLayer& layer : engine.spec().layers) {
    if (!layer.moe) continue;
    facts.experts = layer.moe->experts;
    facts.top_k = layer.moe->top_k;
  }
  for (int rank = 0; rank < engine.mesh().world_size(); ++rank) facts.ranks.push_back(rank_facts(engine, rank));
  return facts;
}

EngineReading read_engine(const Engine& engine) {
  return {.facts = engine_facts(engine), .stats = engine.stats(), .experts = engine.expert_status_without_steps()};
}

std::string layout_text(const GridSizes& sizes, bool has_moe) {
  std::string text;
  const auto add = [&text](const char* name, int size) {
    text += fmt::format("{}{}{}", text.empty() ? "" : "·", name, size);
  };
  if (sizes.data > 1) add("dp", sizes.data);
  if (sizes.pipeline > 1) add("pp", sizes.pipeline);
  if (sizes.context > 1) add("cp", sizes.context);
  add("tp", sizes.tensor);
  if (has_moe && sizes.moe_expert > 1) add("ep", sizes.moe_expert);
  if (has_moe && sizes.moe_expert > 1 && sizes.moe_tensor > 1) add("moe_tp", sizes.moe_tensor);
  if (sizes.attention_data > 1) add("adp", sizes.attention_data);
  return text;
}

// A rank that waits for others is not the one that holds things up.
const char* rank_state(const RankStats& rank, double stall_seconds) {
  if (rank.failed) return "failed";
  return rank.in_step_seconds > stall_seconds && !rank.waiting ? "stalled" : "ok";
}

std::optional<int> rank_of_failure(std::string_view text) {
  constexpr std::string_view kPrefix = "rank ";
  int rank = 0;
  if (!text.starts_with(kPrefix)) return std::nullopt;
  text.remove_prefix(kPrefix.size());
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), rank);
  return parsed.ec == std::errc{} ? std::optional(rank) : std::nullopt;
}

double max_over_mean(const std::vector<double>& loads) {
  const double sum = std::accumulate(loads.begin(), loads.end(), 0.0);
  if (sum <= 0) return 1.0;
  return *std::max_element(loads.begin(), loads.end()) * static_cast<double>(loads.size()) / sum;
}

std::optional<Imbalance> imbalance(const std::vector<ExpertStatus>& experts) {
  Imbalance result{.worst = 1, .mean = 0};
  int64_t layers = 0;
  for (const ExpertStatus& status : experts) {
    for (const auto& [layer, loads] : status.by_ep_rank) {
      if (std::accumulate(loads.begin(), loads.end(), 0.0) <= 0) continue;
      const double ratio = max_over_mean(loads);
      result.worst = std::max(result.worst, ratio);
      result.mean += ratio;
      ++layers;
    }
  }
  if (layers == 0) return std::nullopt;
  result.mean /= static_cast<double>(layers);
  return result;
}

Json ranks_json(const ServerStatus& server, const EngineReading* engine) {
  Json json = {{"model", server.model},
               {"version", server.version},
               {"layout", engine ? engine->facts.layout : ""},
               {"state", server.state},
               {"uptime_seconds", server.uptime_seconds},
               {"world_size", engine ? engine->facts.ranks.size() : 0}};
  if (engine) {
    const EngineFacts& facts = engine->facts;
    json["sizes"] = sizes_json(facts.sizes);
    json["dtype"] = facts.dtype;
    json["kv_dtype"] = facts.kv_dtype;
    json["backend"] = facts.backend;
    json["max_seq_len"] = facts.max_seq_len;
    json["threads_per_rank"] = facts.threads_per_rank;
  }
  if (server.state == "loading") json["progress"] = server.progress;
  json["advice"] = server.advice;
  if (engine) {
    add_engine(json, server, *engine);
  } else {
    json["requests"] = {{"running", 0}, {"waiting", 0}, {"oldest_waiting_seconds", server.oldest_waiting_seconds}};
    json["ranks"] = Json::array();
  }
  return json;
}

Json experts_json(const EngineReading* engine) {
  if (!engine || engine->facts.experts == 0) return {{"experts", 0}, {"replicas", Json::array()}};
  const EngineFacts& facts = engine->facts;
  int64_t slots = 0;
  for (const RankFacts& rank : facts.ranks)
    if (rank.slots_per_layer > 0) slots = rank.slots_per_layer * facts.sizes.moe_expert;
  Json replicas = Json::array();
  for (size_t dp = 0; dp < engine->experts.size(); ++dp) replicas.push_back(replica_json(dp, engine->experts[dp]));
  return {{"experts", facts.experts},
          {"top_k", facts.top_k},
          {"ep_size", facts.sizes.moe_expert},
          {"slots", slots},
          {"replicas", std::move(replicas)}};
}

}  // namespace shoal
