// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/serve_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace shoal::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kBusyClient = 0.8;
constexpr double kLateClient = 0.01;
constexpr size_t kShownErrors = 5;
constexpr double kMedian = 50;  // told by that name

struct Metric {
  const char* name;  // in keys
  const char* short_name;
  const char* title;
  const Sample RunSamples::*sample;
};
constexpr Metric kMetrics[] = {
    {"ttft", "TTFT", "Time to First Token", &RunSamples::ttft},
    {"tpot", "TPOT", "Time per Output Token (excl. 1st token)", &RunSamples::tpot},
    {"itl", "ITL", "Inter-token Latency", &RunSamples::itl},
    {"e2el", "E2EL", "End-to-end Latency", &RunSamples::latency},
    {"client_queue_time", "Client Queue Time", "Client-side Queueing", &RunSamples::queue_time},
    {"e2el_including_client_queue", "E2EL incl. Client Queue", "Queue-inclusive End-to-end Latency",
     &RunSamples::latency_with_queue}};

std::string percentile_word(double percentile) {
  return percentile == std::floor(percentile) ? fmt::format("{:.0f}", percentile) : fmt::format("{}", percentile);
}

bool wanted(const ServeReportOptions& options, const char* name) {
  return std::find(options.metrics.begin(), options.metrics.end(), name) != options.metrics.end();
}

template <typename Value>
Json column(const ServeRun& run, Value value) {
  Json list = Json::array();
  for (const RequestRecord& record : run.records) list.push_back(value(record));
  return list;
}

}  // namespace

std::string percentile_key(double percentile, const std::string& metric) {
  return fmt::format("p{}_{}_ms", percentile_word(percentile), metric);
}

bool is_metric(const std::string& name) {
  return std::any_of(std::begin(kMetrics), std::end(kMetrics),
                     [&](const Metric& metric) { return name == metric.name; });
}

Json serve_report(const ServeRun& run, const ServeReportOptions& options) {
  const RunSamples samples = samples_of(run.records);
  const double seconds = std::max(run.seconds, 1e-9);
  const auto completed = static_cast<double>(samples.completed);
  const auto output = static_cast<double>(samples.output_tokens);
  const std::vector<double> by_second = tokens_by_second(run.records);
  Json report = {
      {"duration", run.seconds},
      {"completed", samples.completed},
      {"failed", samples.failed},
      {"total_input_tokens", samples.input_tokens},
      {"total_output_tokens", samples.output_tokens},
      {"request_throughput", completed / seconds},
      {"request_goodput", nullptr},
      {"output_throughput", output / seconds},
      {"total_token_throughput", (output + static_cast<double>(samples.input_tokens)) / seconds},
      {"max_output_tokens_per_s", by_second.empty() ? 0 : *std::max_element(by_second.begin(), by_second.end())},
      {"max_concurrent_requests", peak_concurrency(run.records)}};
  if (options.goodput.any())
    report["request_goodput"] = static_cast<double>(count_good(run.records, options.goodput)) / seconds;
  for (const Metric& metric : kMetrics) {
    if (!wanted(options, metric.name)) continue;
    const Sample& sample = samples.*metric.sample;
    report[fmt::format("mean_{}_ms", metric.name)] = 1e3 * sample.mean();
    report[fmt::format("median_{}_ms", metric.name)] = 1e3 * sample.median();
    report[fmt::format("std_{}_ms", metric.name)] = 1e3 * sample.deviation();
    for (const double p : options.percentiles) report[percentile_key(p, metric.name)] = 1e3 * sample.percentile(p);
  }
  report["total_cached_tokens"] = samples.cached_tokens;
  report["cached_share"] = samples.input_tokens > 0
                               ? static_cast<double>(samples.cached_tokens) / static_cast<double>(samples.input_tokens)
                               : 0.0;
  report["client_cpu_share"] = run.cpu_seconds / seconds;
  report["client_late_p99_ms"] = 1e3 * run.late_p99_s;
  report["warnings"] = serve_warnings(run, samples);
  return report;
}

Json serve_details(const ServeRun& run) {
  return {{"input_lens", column(run, [](const RequestRecord& r) { return r.input_tokens; })},
          {"output_lens", column(run, [](const RequestRecord& r) { return r.ok ? r.output_tokens : 0; })},
          {"ttfts", column(run, [](const RequestRecord& r) { return r.ttft(); })},
          {"itls", column(run,
                          [](const RequestRecord& r) {
                            Json gaps = Json::array();
                            for (size_t i = 1; i < r.pieces_s.size(); ++i)
                              gaps.push_back(r.pieces_s[i] - r.pieces_s[i - 1]);
                            return gaps;
                          })},
          {"latencies", column(run, [](const RequestRecord& r) { return r.latency(); })},
          {"start_times", column(run, [](const RequestRecord& r) { return r.start_s; })},
          {"queue_times", column(run, [](const RequestRecord& r) { return r.queue_time(); })},
          {"cached_lens", column(run, [](const RequestRecord& r) { return r.cached_tokens; })},
          {"generated_texts", column(run, [](const RequestRecord& r) { return r.text; })},
          {"errors", column(run, [](const RequestRecord& r) { return r.error; })}};
}

std::vector<std::string> serve_warnings(const ServeRun& run, const RunSamples& samples) {
  std::vector<std::string> warnings;
  std::map<std::string, int64_t> errors;
  for (const RequestRecord& record : run.records)
    if (!record.ok) ++errors[record.error];
  if (samples.failed > 0)
    warnings.push_back(fmt::format("{} of {} requests failed; they are in no figure but this one", samples.failed,
                                   run.records.size()));
  size_t shown = 0;
  for (const auto& [error, count] : errors) {
    if (++shown > kShownErrors) break;
    warnings.push_back(fmt::format("{} x {}", count, error));
  }
  if (errors.size() > kShownErrors)
    warnings.push_back(fmt::format("and {} other errors", errors.size() - kShownErrors));
  const auto input = static_cast<double>(std::max<int64_t>(1, samples.input_tokens));
  const double cached = static_cast<double>(samples.cached_tokens) / input;
  if (cached > kMuchReuse)
    warnings.push_back(
        fmt::format("{:.1f} % of the prompt tokens came from the server's prefix cache; flush it, or take "
                    "another --seed, unless that is what you measure",
                    100 * cached));
  const double busy = run.cpu_seconds / std::max(run.seconds, 1e-9);
  if (busy > kBusyClient)
    warnings.push_back(
        fmt::format("this client was busy {:.0f} % of the time and may be what bounds the figures", 100 * busy));
  if (run.late_p99_s > kLateClient)
    warnings.push_back(
        fmt::format("1 % of the requests went out {:.0f} ms or more after they were due", 1e3 * run.late_p99_s));
  if (samples.latency.count() < 100)
    warnings.push_back(fmt::format("p99 of {} requests says little; take 100 or more", samples.latency.count()));
  if (run.without_usage > 0)
    warnings.push_back(fmt::format("{} answers had no usage: their chunks were counted as tokens", run.without_usage));
  return warnings;
}

std::string serve_report_text(const Json& report, const ServeReportOptions& options) {
  std::string text = fmt::format("{:=^60}\n", " Serving Benchmark Result ");
  const auto line = [&](const std::string& name, const Json& value) {
    text += fmt::format("{:<46} {}\n", name + ":",
                        value.is_number_float() ? fmt::format("{:.2f}", value.get<double>()) : value.dump());
  };
  line("Successful requests", report["completed"]);
  line("Failed requests", report["failed"]);
  if (options.max_concurrency > 0) line("Maximum request concurrency", options.max_concurrency);
  if (std::isfinite(options.request_rate)) line("Request rate configured (RPS)", options.request_rate);
  line("Benchmark duration (s)", report["duration"]);
  line("Total input tokens", report["total_input_tokens"]);
  line("Total generated tokens", report["total_output_tokens"]);
  line("Request throughput (req/s)", report["request_throughput"]);
  if (options.goodput.any()) line("Request goodput (req/s)", report["request_goodput"]);
  line("Output token throughput (tok/s)", report["output_throughput"]);
  line("Peak output token throughput (tok/s)", report["max_output_tokens_per_s"]);
  line("Peak concurrent requests", report["max_concurrent_requests"]);
  line("Total token throughput (tok/s)", report["total_token_throughput"]);
  for (const Metric& metric : kMetrics) {
    if (!wanted(options, metric.name)) continue;
    text += fmt::format("{:-^60}\n", metric.title);
    line(fmt::format("Mean {} (ms)", metric.short_name), report[fmt::format("mean_{}_ms", metric.name)]);
    line(fmt::format("Median {} (ms)", metric.short_name), report[fmt::format("median_{}_ms", metric.name)]);
    for (const double p : options.percentiles)
      if (p != kMedian)
        line(fmt::format("P{} {} (ms)", percentile_word(p), metric.short_name), report[percentile_key(p, metric.name)]);
  }
  text += std::string(60, '=') + "\n";
  for (const Json& warning : report["warnings"]) text += "warning: " + warning.get<std::string>() + "\n";
  return text;
}

}  // namespace shoal::bench
