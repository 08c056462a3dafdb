// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/engine_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "apps/bench/machine_info.h"
#include "apps/report.h"

namespace shoal::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kEnoughForP99 = 100;

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

Json spread(const Sample& sample, double factor) {
  return {{"minimum", sample.minimum() * factor},  {"maximum", sample.maximum() * factor},
          {"average", sample.mean() * factor},     {"p50", sample.percentile(50) * factor},
          {"p90", sample.percentile(90) * factor}, {"p95", sample.percentile(95) * factor},
          {"p99", sample.percentile(99) * factor}, {"std", sample.deviation() * factor}};
}

Json milliseconds(const Sample& sample) { return spread(sample, 1e3); }

Json engine_section(const Engine& engine, const OfflineReport& report) {
  const std::filesystem::path path = report.model_path;
  std::string name = path.filename().string();
  if (name.empty()) name = path.parent_path().filename().string();
  return {{"model", name},
          {"model_path", report.model_path},
          {"engine_dir", nullptr},
          {"version", build_json()["version"]},
          {"backend", engine.info().backend},
          {"dtype", std::string(dtype_name(engine.info().dtype))},
          {"kv_cache_dtype", std::string(dtype_name(engine.info().kv_dtype))},
          {"quantization", nullptr},
          {"family", engine.spec().family},
          {"model_fingerprint", model_fingerprint(path)},
          {"threads_per_rank", engine.info().threads_per_rank},
          {"pinned", engine.info().pinned}};
}

Json world_section(const Engine& engine, const OfflineReport& report) {
  const GridSizes& sizes = engine.mesh().sizes();
  const EngineConfig& config = engine.config();
  double issued = 0;
  for (const RequestRecord& record : report.run.records) issued = std::max(issued, record.start_s);
  return {{"tp_size", sizes.tensor},
          {"pp_size", sizes.pipeline},
          {"ep_size", sizes.moe_expert},
          {"world_size", engine.mesh().world_size()},
          {"max_batch_size", config.max_batch_size},
          {"max_num_tokens", config.max_num_tokens},
          {"scheduling_policy", config.scheduler.capacity_scheduler_policy},
          {"kv_cache_percentage", config.kv_cache.free_memory_fraction},
          {"issue_rate", ratio(static_cast<double>(report.run.records.size()), issued)},
          {"dp_size", sizes.data},
          {"cp_size", sizes.context},
          {"moe_tp_size", sizes.moe_tensor},
          {"attention_dp_size", sizes.attention_data},
          {"layout", grid_text(engine.mesh(), engine.spec().has_moe())}};
}

// From the first request's start to the last one's end.
double total_seconds(const std::vector<RequestRecord>& records) {
  double first = 0, last = 0;
  bool any = false;
  for (const RequestRecord& record : records) {
    if (!record.ok) continue;
    first = any ? std::min(first, record.start_s) : record.start_s;
    last = std::max(last, record.end_s);
    any = true;
  }
  return last - first;
}

Json request_section(const OfflineReport& report, const RunSamples& samples, double seconds) {
  const auto completed = static_cast<double>(samples.completed);
  return {{"num_requests", samples.completed},
          {"avg_num_concurrent_requests", ratio(samples.latency.mean() * completed, seconds)},
          {"avg_input_length", ratio(static_cast<double>(samples.input_tokens), completed)},
          {"avg_output_length", ratio(static_cast<double>(samples.output_tokens), completed)},
          {"total_input_tokens", samples.input_tokens},
          {"total_output_tokens", samples.output_tokens},
          {"failed", samples.failed},
          {"concurrency", report.concurrency},
          {"ignore_eos", report.ignore_eos}};
}

Json performance_section(const Engine& engine, const RunSamples& samples, double seconds) {
  const auto output = static_cast<double>(samples.output_tokens);
  const auto both = output + static_cast<double>(samples.input_tokens);
  const int ranks = engine.mesh().world_size();
  const int usable = machine_json()["usable_cores"];
  const int cores = std::min(ranks * engine.info().threads_per_rank, usable);
  return {{"total_latency_ms", 1e3 * seconds},
          {"avg_request_latency_ms", 1e3 * samples.latency.mean()},
          {"request_throughput_req_s", ratio(static_cast<double>(samples.completed), seconds)},
          {"system_output_throughput_tok_s", ratio(output, seconds)},
          {"system_total_throughput_tok_s", ratio(both, seconds)},
          {"output_throughput_per_user_tok_s", samples.output_per_user.mean()},
          {"output_throughput_per_gpu_tok_s", ratio(output, seconds * ranks)},
          {"request_latency_percentiles_ms", milliseconds(samples.latency)},
          {"output_throughput_per_rank_tok_s", ratio(output, seconds * ranks)},
          {"output_throughput_per_core_tok_s", ratio(output, seconds * cores)},
          {"cores", cores}};
}

Json streaming_section(const RunSamples& samples) {
  return {{"token_output_speed_tok_s", samples.generation_per_user.mean()},
          {"avg_ttft_ms", 1e3 * samples.ttft.mean()},
          {"avg_tpot_ms", 1e3 * samples.tpot.mean()},
          {"tpot_percentiles", milliseconds(samples.tpot)},
          {"ttft_percentiles", milliseconds(samples.ttft)},
          {"gen_tps_percentiles", spread(samples.generation_per_user, 1)},
          {"avg_itl_ms", 1e3 * samples.itl.mean()},
          {"itl_percentiles", milliseconds(samples.itl)}};
}

Json dataset_section(const BenchDataset& data) {
  std::vector<double> inputs, outputs, both;
  for (const BenchRequest& request : data.requests) {
    inputs.push_back(static_cast<double>(request.ids.size()));
    outputs.push_back(static_cast<double>(request.output_tokens));
    both.push_back(inputs.back() + outputs.back());
  }
  const Sample isl(inputs), osl(outputs), length(both);
  const auto whole = [](double value) { return static_cast<int64_t>(value); };
  return {{"isl_stats", spread(isl, 1)},
          {"osl_stats", spread(osl, 1)},
          {"seq_len_stats", spread(length, 1)},
          {"num_requests", data.requests.size()},
          {"dataset_path", data.path.empty() ? Json() : Json(data.path)},
          {"max_isl", whole(isl.maximum())},
          {"max_osl", whole(osl.maximum())},
          {"max_sequence_length", whole(length.maximum())},
          {"avg_isl", whole(isl.mean())},
          {"avg_osl", whole(osl.mean())},
          {"avg_sequence_length", whole(length.mean())},
          {"name", data.name}};
}

Json steps_section(const OfflineRun& run) {
  const StepStats& steps = run.stats.steps;
  const double busy = steps.prompt_seconds + steps.generation_seconds;
  return {{"steps", steps.steps},
          {"prompt_tokens", steps.prompt_tokens},
          {"generated_tokens", steps.generated_tokens},
          {"prompt_seconds", steps.prompt_seconds},
          {"generation_seconds", steps.generation_seconds},
          {"planning_seconds", steps.planning_seconds},
          {"sampling_seconds", steps.sampling_seconds},
          {"planning_and_sampling_share", ratio(steps.planning_seconds + steps.sampling_seconds, busy)},
          {"process_cpu_seconds", run.cpu_seconds}};
}

Json ranks_section(const OfflineRun& run) {
  Json ranks = Json::array();
  for (const RankStats& rank : run.stats.ranks) {
    const double all = rank.busy_seconds() + rank.stage_seconds + rank.idle_seconds;
    ranks.push_back({{"rank", rank.rank},
                     {"dp", rank.at.dp},
                     {"pp", rank.at.pp},
                     {"cp", rank.at.cp},
                     {"tp", rank.at.tp},
                     {"attn_dp", rank.at.attn_dp},
                     {"moe_tp", rank.at.moe_tp},
                     {"moe_ep", rank.at.moe_ep},
                     {"steps", rank.steps},
                     {"tokens", rank.tokens},
                     {"bytes_sent", std::accumulate(rank.sent_bytes.begin(), rank.sent_bytes.end(), int64_t{0})},
                     {"compute_share", ratio(rank.compute_seconds, all)},
                     {"communication_share", ratio(rank.communication_seconds, all)},
                     {"stage_share", ratio(rank.stage_seconds, all)},
                     {"idle_share", ratio(rank.idle_seconds, all)},
                     {"bubble", rank.bubble()}});
  }
  return ranks;
}

Json cache_section(const OfflineRun& run) {
  const CacheUse& cache = run.stats.cache;
  const auto prompts = static_cast<double>(cache.stats.reused_tokens + cache.stats.computed_tokens);
  return {{"total_pages", cache.total_pages},
          {"peak_used_pages", run.peak_pages},
          {"peak_used_share", ratio(static_cast<double>(run.peak_pages), static_cast<double>(cache.total_pages))},
          {"preemptions", cache.preemptions},
          {"evicted_pages", cache.stats.evicted_pages},
          {"reused_tokens", cache.stats.reused_tokens},
          {"prefix_cache_hit_share", ratio(static_cast<double>(cache.stats.reused_tokens), prompts)}};
}

// Tokens of the heaviest EP rank over the ranks' mean, layer by layer.
Json experts_section(const OfflineRun& run) {
  Json layers = Json::array();
  double worst = 0, sum = 0;
  for (const auto& [layer, tokens] : run.loads.by_ep_rank) {
    const double mean = static_cast<double>(std::accumulate(tokens.begin(), tokens.end(), int64_t{0})) /
                        static_cast<double>(tokens.size());
    const double imbalance = mean > 0 ? static_cast<double>(*std::max_element(tokens.begin(), tokens.end())) / mean : 1;
    layers.push_back({{"layer", layer}, {"max_over_mean", imbalance}, {"rank_tokens", tokens}});
    worst = std::max(worst, imbalance);
    sum += imbalance;
  }
  if (layers.empty()) return nullptr;
  return {{"max_over_mean", {{"worst", worst}, {"mean", sum / static_cast<double>(layers.size())}}},
          {"layers", std::move(layers)}};
}

double mean_bubble(const OfflineRun& run) {
  double sum = 0;
  for (const RankStats& rank : run.stats.ranks) sum += rank.bubble();
  return run.stats.ranks.empty() ? 0 : sum / static_cast<double>(run.stats.ranks.size());
}

}  // namespace

std::vector<std::string> offline_warnings(const OfflineReport& report, const RunSamples& samples) {
  std::vector<std::string> warnings;
  if (!is_optimised_build()) warnings.emplace_back("this build is not optimised; measure with a release build");
  if (samples.failed > 0)
    warnings.push_back(fmt::format("{} of {} requests failed; they are in no figure but this one", samples.failed,
                                   report.run.records.size()));
  if (samples.latency.count() < kEnoughForP99)
    warnings.push_back(
        fmt::format("p99 of {} requests says little; take {} or more", samples.latency.count(), kEnoughForP99));
  const KvCacheStats& cache = report.run.stats.cache.stats;
  const double reused =
      ratio(static_cast<double>(cache.reused_tokens), static_cast<double>(cache.reused_tokens + cache.computed_tokens));
  if (reused > kMuchReuse)
    warnings.push_back(fmt::format("{:.1f} % of the prompt tokens came from the prefix cache", 100 * reused));
  int64_t short_outputs = 0;
  for (size_t i = 0; i < report.run.records.size(); ++i) {
    const RequestRecord& record = report.run.records[i];
    if (record.ok && record.output_tokens < report.data.requests[i].output_tokens) ++short_outputs;
  }
  if (short_outputs > 0)
    warnings.push_back(fmt::format("{} requests ended before their output length, at an end token", short_outputs));
  return warnings;
}

Json engine_report(const Engine& engine, const OfflineReport& report) {
  const RunSamples samples = samples_of(report.run.records);
  const double seconds = total_seconds(report.run.records);
  Json json = {{"engine", engine_section(engine, report)},
               {"machine", machine_json()},
               {"world_info", world_section(engine, report)},
               {"request_info", request_section(report, samples, seconds)},
               {"performance", performance_section(engine, samples, seconds)},
               {"streaming_metrics", streaming_section(samples)},
               {"dataset", dataset_section(report.data)}};
  json["benchmark"] = report.command;
  json["date"] = utc_time();
  json["build"] = build_json();
  json["steps"] = steps_section(report.run);
  json["bubble"] = mean_bubble(report.run);
  json["ranks"] = ranks_section(report.run);
  json["cache"] = cache_section(report.run);
  json["experts"] = experts_section(report.run);
  json["warnings"] = offline_warnings(report, samples);
  return json;
}

}  // namespace shoal::bench
