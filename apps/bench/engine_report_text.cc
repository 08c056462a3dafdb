// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "apps/bench/engine_report.h"
#include "engine/kv_budget.h"

namespace shoal::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostRanks = 16;

class Text {
 public:
  void heading(const std::string& name) {
    text_ += fmt::format("\n--- {} {}\n", name, std::string(66 - name.size(), '-'));
  }
  void line(const std::string& name, const std::string& value) {
    text_ += fmt::format("{:<46} {}\n", name + ":", value);
  }
  void number(const std::string& name, const Json& value, int digits = 2) {
    line(name, value.is_number_float() ? fmt::format("{:.{}f}", value.get<double>(), digits) : value.dump());
  }
  void spread_header() {
    text_ += fmt::format("{:<26} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n", "", "average", "p50", "p90", "p95",
                         "p99", "minimum", "maximum");
  }
  void spread(const std::string& name, const Json& values) {
    text_ += fmt::format("{:<26}", name);
    for (const char* key : {"average", "p50", "p90", "p95", "p99", "minimum", "maximum"})
      text_ += fmt::format(" {:>9.2f}", values[key].get<double>());
    text_ += '\n';
  }
  void raw(const std::string& line) { text_ += line + '\n'; }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

std::string percent(const Json& share) { return fmt::format("{:.1f} %", 100 * share.get<double>()); }

void world(Text& text, const Json& report) {
  const Json& engine = report["engine"];
  const Json& info = report["world_info"];
  text.heading("engine");
  text.line("model", fmt::format("{} ({}, {})", engine["model"].get<std::string>(), engine["family"].get<std::string>(),
                                 engine["dtype"].get<std::string>()));
  text.line("layout", info["layout"].get<std::string>());
  text.line("backend",
            fmt::format("{}, {} threads a rank, {}", engine["backend"].get<std::string>(),
                        engine["threads_per_rank"].get<int>(), report["machine"]["name"].get<std::string>()));
  text.line("max batch size / max tokens a step",
            fmt::format("{} / {}", info["max_batch_size"].dump(), info["max_num_tokens"].dump()));
  text.line("scheduling policy", info["scheduling_policy"].get<std::string>());
}

void requests(Text& text, const Json& report) {
  const Json& info = report["request_info"];
  const Json& data = report["dataset"];
  text.heading("requests");
  text.line("dataset",
            fmt::format("{}{}", data["name"].get<std::string>(),
                        data["dataset_path"].is_null() ? "" : ", " + data["dataset_path"].get<std::string>()));
  text.number("completed", info["num_requests"]);
  text.number("failed", info["failed"]);
  text.number("average concurrency", info["avg_num_concurrent_requests"]);
  text.number("average input tokens", info["avg_input_length"], 1);
  text.number("average output tokens", info["avg_output_length"], 1);
}

void performance(Text& text, const Json& report) {
  const Json& figures = report["performance"];
  text.heading("performance");
  text.number("request throughput (req/s)", figures["request_throughput_req_s"]);
  text.number("output throughput (tokens/s)", figures["system_output_throughput_tok_s"]);
  text.number("total throughput (tokens/s)", figures["system_total_throughput_tok_s"]);
  text.number("output throughput per user (tokens/s/user)", figures["output_throughput_per_user_tok_s"]);
  text.number("output throughput per rank (tokens/s/rank)", figures["output_throughput_per_rank_tok_s"]);
  text.number("output throughput per core (tokens/s/core)", figures["output_throughput_per_core_tok_s"]);
  text.number("output speed per user, 1/TPOT (tokens/s/user)", report["streaming_metrics"]["token_output_speed_tok_s"]);
  text.number("total time (ms)", figures["total_latency_ms"]);
  text.raw("");
  const Json& stream = report["streaming_metrics"];
  text.spread_header();
  text.spread("request latency (ms)", figures["request_latency_percentiles_ms"]);
  text.spread("time to first token (ms)", stream["ttft_percentiles"]);
  text.spread("time per output token (ms)", stream["tpot_percentiles"]);
  text.spread("inter-token latency (ms)", stream["itl_percentiles"]);
}

void ranks(Text& text, const Json& report) {
  text.heading("ranks");
  text.raw("  rank   compute   communication     stage      idle    bubble     steps    tokens       sent");
  size_t shown = 0;
  for (const Json& rank : report["ranks"]) {
    if (++shown > kMostRanks) break;
    text.raw(fmt::format("{:>6} {:>9} {:>15} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}", rank["rank"].get<int>(),
                         percent(rank["compute_share"]), percent(rank["communication_share"]),
                         percent(rank["stage_share"]), percent(rank["idle_share"]), percent(rank["bubble"]),
                         rank["steps"].get<int64_t>(), rank["tokens"].get<int64_t>(),
                         format_bytes(rank["bytes_sent"].get<double>())));
  }
  if (shown > kMostRanks) text.raw(fmt::format("       and {} more", report["ranks"].size() - kMostRanks));
  text.line("bubble, mean of the ranks", percent(report["bubble"]));
  text.line("planning and sampling, share of the steps", percent(report["steps"]["planning_and_sampling_share"]));
}

void memory(Text& text, const Json& report) {
  const Json& cache = report["cache"];
  text.heading("cache and experts");
  text.line("KV pages, peak of all",
            fmt::format("{} of {}", cache["peak_used_pages"].dump(), cache["total_pages"].dump()));
  text.number("preemptions", cache["preemptions"]);
  text.line("prompt tokens from the prefix cache", percent(cache["prefix_cache_hit_share"]));
  if (report["experts"].is_null()) return;
  const Json& imbalance = report["experts"]["max_over_mean"];
  text.line("tokens of the heaviest EP rank / mean",
            fmt::format("{:.3f} over layers, {:.3f} the worst", imbalance["mean"].get<double>(),
                        imbalance["worst"].get<double>()));
}

}  // namespace

std::string engine_report_text(const Json& report) {
  Text text;
  world(text, report);
  requests(text, report);
  performance(text, report);
  ranks(text, report);
  memory(text, report);
  if (!report["warnings"].empty()) text.raw("");
  for (const Json& warning : report["warnings"]) text.raw("warning: " + warning.get<std::string>());
  return text.take();
}

}  // namespace shoal::bench
