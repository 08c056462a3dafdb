// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/html_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "apps/bench/machine_info.h"
#include "apps/bench/statistics.h"
#include "apps/bench/svg.h"

namespace shoal::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostLanes = 400;

constexpr const char* kStyle = R"(
:root{--ink:#1b1f24;--paper:#fff;--faint:#d7dce2;--soft:#5b6570;--c0:#0b6bcb;--c1:#d9822b;--c2:#238551;--c3:#b3365b;--c4:#8f99a6}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ed;--paper:#14181d;--faint:#313842;--soft:#98a3af;--c0:#5aa9f5;--c1:#f0a860;--c2:#5bc08a;--c3:#ef7f9f;--c4:#6b7683}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:980px;margin:24px auto;padding:0 16px}
h1{font-size:22px}h2{font-size:18px;margin-top:32px;border-bottom:1px solid var(--faint)}h3{font-size:15px}
table{border-collapse:collapse;margin:8px 0}td,th{padding:3px 14px 3px 0;text-align:right;border-bottom:1px solid var(--faint);font-variant-numeric:tabular-nums}
td:first-child,th:first-child{text-align:left}.scroll{overflow-x:auto}.warn{color:var(--c3)}.soft{color:var(--soft)}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(400px,1fr));gap:8px}svg{width:100%;height:auto}
.grid{stroke:var(--faint)}.tick,.key{font-size:11px;fill:var(--soft)}.title{font-size:12px;fill:var(--ink);font-weight:600}.unit{fill:var(--soft);font-weight:400}
.tiles,.figures{display:grid;margin:12px 0;padding:0}.tiles{grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px}
.tiles div{border:1px solid var(--faint);border-radius:8px;padding:8px 12px}.tiles dt{color:var(--soft);font-size:13px}
.tiles dd{margin:0;font-size:21px;font-weight:600;font-variant-numeric:tabular-nums}
.figures{grid-template-columns:repeat(auto-fill,minmax(290px,1fr));gap:0 32px}.figures div{display:flex;justify-content:space-between;gap:12px;border-bottom:1px solid var(--faint);padding:3px 0}
.figures dt{color:var(--soft)}.figures dd{margin:0;text-align:right;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.line{fill:none;stroke-width:1.8}.line.c0{stroke:var(--c0)}.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}.line.c3{stroke:var(--c3)}
rect.c0,.key.c0{fill:var(--c0)}rect.c1,.key.c1{fill:var(--c1)}rect.c2,.key.c2{fill:var(--c2)}rect.c3,.key.c3{fill:var(--c3)}rect.c4,.key.c4{fill:var(--c4)}
.bar{display:flex;width:360px;height:14px}.bar i{display:block}.bar .c0{background:var(--c0)}.bar .c1{background:var(--c1)}.bar .c2{background:var(--c2)}.bar .c4{background:var(--c4)}
)";

std::string number_text(const Json& value) {
  if (value.is_number_float()) return fmt::format("{:.3f}", value.get<double>());
  if (value.is_string()) return escape_html(value.get<std::string>());
  return value.is_null() ? "" : escape_html(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

// Every scalar of an object that is known.
std::string object_table(const Json& object) {
  std::string rows;
  for (const auto& [key, value] : object.items()) {
    if (value.is_structured() || value.is_null()) continue;
    rows += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", escape_html(key), number_text(value));
  }
  return rows.empty() ? "" : "<dl class=figures>" + rows + "</dl>";
}

// What one looks for first: the figures that reports of both kinds have, under their names.
std::string tiles(const Json& report, const RunSamples& samples) {
  const auto figure = [&](const char* serve_key, const char* engine_key) -> std::string {
    const Json performance = report.value("performance", Json::object());
    const Json value = report.contains(serve_key) ? report[serve_key] : performance.value(engine_key, Json());
    return value.is_number() ? fmt::format("{:.2f}", value.get<double>()) : "";
  };
  const std::pair<const char*, std::string> list[] = {
      {"requests completed", std::to_string(samples.completed)},
      {"failed", std::to_string(samples.failed)},
      {"requests/s", figure("request_throughput", "request_throughput_req_s")},
      {"output tokens/s", figure("output_throughput", "system_output_throughput_tok_s")},
      {"all tokens/s", figure("total_token_throughput", "system_total_throughput_tok_s")},
  };
  std::string html;
  for (const auto& [name, value] : list) html += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", name, value);
  return "<dl class=tiles>" + html + "</dl>";
}

std::string sample_row(const char* name, const Sample& sample) {
  std::string row = fmt::format("<tr><td>{}", name);
  for (const double value : {sample.mean(), sample.deviation(), sample.percentile(50), sample.percentile(90),
                             sample.percentile(95), sample.percentile(99), sample.minimum(), sample.maximum()})
    row += fmt::format("<td>{:.2f}", 1e3 * value);
  return row + fmt::format("<td>{}</tr>", sample.count());
}

std::string latency_table(const RunSamples& samples) {
  return "<div "
         "class=scroll><table><tr><th>ms<th>mean<th>std<th>p50<th>p90<th>p95<th>p99<th>min<th>max<th>samples</tr>" +
         sample_row("time to first token", samples.ttft) + sample_row("time per output token", samples.tpot) +
         sample_row("inter-token latency", samples.itl) + sample_row("end-to-end latency", samples.latency) +
         "</table></div>";
}

std::string distribution(const char* title, const Sample& sample) {
  Series series{.name = title, .points = {}};
  const std::vector<double>& values = sample.sorted();
  for (size_t i = 0; i < values.size(); ++i)
    series.points.emplace_back(1e3 * values[i], 100 * static_cast<double>(i + 1) / static_cast<double>(values.size()));
  return line_chart({.title = title, .x_unit = "ms", .y_unit = "% of samples", .y_most = 100, .steps = true}, {series});
}

std::string throughput_chart(const HtmlRun& run) {
  Series series{.name = "output tokens/s", .points = {}};
  const std::vector<double> seconds = tokens_by_second(run.records);
  for (size_t i = 0; i < seconds.size(); ++i) series.points.emplace_back(static_cast<double>(i), seconds[i]);
  if (!seconds.empty()) series.points.emplace_back(static_cast<double>(seconds.size()), seconds.back());
  return line_chart(
      {.title = "output tokens of each second", .x_unit = "s", .y_unit = "tok/s", .y_most = 0, .steps = true},
      {series});
}

// Requests under way, from the client's own times.
std::string concurrency_chart(const HtmlRun& run) {
  std::vector<std::pair<double, int>> changes;
  for (const RequestRecord& record : run.records) {
    changes.emplace_back(record.start_s, 1);
    changes.emplace_back(record.end_s, -1);
  }
  std::sort(changes.begin(), changes.end());
  Series series{.name = "requests under way", .points = {}};
  int64_t now = 0;
  for (const auto& [at, change] : changes) series.points.emplace_back(at, static_cast<double>(now += change));
  return line_chart({.title = "requests under way", .x_unit = "s", .y_unit = "requests", .y_most = 0, .steps = true},
                    {series});
}

std::string load_charts(const HtmlRun& run) {
  if (run.load.empty()) return concurrency_chart(run);
  Series running{.name = "running", .points = {}}, waiting{.name = "waiting", .points = {}},
      kv{.name = "KV pages in use", .points = {}};
  for (const LoadPoint& point : run.load) {
    running.points.emplace_back(point.at_s, static_cast<double>(point.running));
    waiting.points.emplace_back(point.at_s, static_cast<double>(point.waiting));
    kv.points.emplace_back(point.at_s, 100 * point.kv_used);
  }
  return line_chart(
             {.title = "requests in the engine", .x_unit = "s", .y_unit = "requests", .y_most = 0, .steps = true},
             {running, waiting}) +
         line_chart({.title = "KV pages in use", .x_unit = "s", .y_unit = "%", .y_most = 0, .steps = true}, {kv});
}

std::string timeline(const HtmlRun& run) {
  std::vector<size_t> order(run.records.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return run.records[a].start_s < run.records[b].start_s; });
  const size_t every = (order.size() + kMostLanes - 1) / kMostLanes;
  std::vector<Lane> lanes;
  for (size_t i = 0; i < order.size(); i += std::max<size_t>(1, every)) {
    const RequestRecord& record = run.records[order[i]];
    Lane lane{.label = fmt::format("request {}: {} + {} tokens, {:.3f} s{}{}", order[i], record.input_tokens,
                                   record.output_tokens, record.latency(), record.ok ? "" : ": ", record.error),
              .spans = {}};
    if (record.queue_time() > 0) lane.spans.push_back({record.queued_s, record.start_s, 4});
    if (record.ok) {
      lane.spans.push_back({record.start_s, record.pieces_s.front(), 1});
      lane.spans.push_back({record.pieces_s.front(), record.end_s, 0});
    } else {
      lane.spans.push_back({record.start_s, record.end_s, 3});
    }
    lanes.push_back(std::move(lane));
  }
  const std::string title =
      fmt::format("requests: {}grey waiting to be sent, orange until the first token, blue after it, red failed",
                  every > 1 ? fmt::format("one of {}; ", every) : "");
  return lane_chart(title, lanes);
}

std::string ranks_table(const Json& ranks) {
  if (!ranks.is_array() || ranks.empty()) return "";
  std::string html =
      "<h3>Ranks</h3><p class=soft>blue computing, orange communicating, green waiting for a stage, grey idle</p><div "
      "class=scroll><table>";
  for (const Json& rank : ranks) {
    html += fmt::format("<tr><td>rank {}<td><span class=bar>", number_text(rank["rank"]));
    const std::pair<const char*, int> parts[] = {
        {"compute_share", 0}, {"communication_share", 1}, {"stage_share", 2}, {"idle_share", 4}};
    for (const auto& [key, colour] : parts) {
      const double share = rank.contains(key) && rank[key].is_number() ? rank[key].get<double>() : 0;
      html += fmt::format("<i class=c{} style=\"width:{:.1f}%\" title=\"{} {:.1f} %\"></i>", colour, 100 * share, key,
                          100 * share);
    }
    html += "</span></tr>";
  }
  return html + "</table></div>";
}

std::string warnings_list(const Json& report) {
  std::string html;
  if (!report.contains("warnings")) return html;
  for (const Json& warning : report["warnings"])
    html += "<p class=warn>" + escape_html(warning.get<std::string>()) + "</p>";
  return html;
}

// The sections of a report, whichever it is.
std::string sections(const Json& report) {
  std::string html = "<h3>Figures</h3>" + object_table(report);
  for (const auto& [key, value] : report.items()) {
    if (!value.is_object() || key == "client") continue;
    html += "<h3>" + escape_html(key) + "</h3>" + object_table(value);
    if (value.contains("ranks")) html += ranks_table(value["ranks"]);
  }
  if (report.contains("ranks")) html += ranks_table(report["ranks"]);
  if (report.contains("client"))
    html += "<h3>client</h3>" + object_table(report["client"]["machine"]) + object_table(report["client"]["build"]);
  return html;
}

std::string run_section(const HtmlRun& run) {
  const RunSamples samples = samples_of(run.records);
  return "<h2>" + escape_html(run.title) + "</h2>" + warnings_list(run.report) + tiles(run.report, samples) +
         latency_table(samples) + "<div class=plots>" + distribution("time to first token", samples.ttft) +
         distribution("time per output token", samples.tpot) + distribution("inter-token latency", samples.itl) +
         distribution("end-to-end latency", samples.latency) + throughput_chart(run) + load_charts(run) + "</div>" +
         timeline(run) + sections(run.report);
}

// Of a sweep: what more load brings and costs.
std::string sweep_section(const std::vector<HtmlRun>& runs) {
  if (runs.size() < 2) return "";
  std::string rows;
  Series ttft{.name = "TTFT p50", .points = {}}, latency{.name = "E2EL p50", .points = {}};
  for (const HtmlRun& run : runs) {
    const RunSamples samples = samples_of(run.records);
    const double rate = run.report.value("output_throughput", 0.0);
    ttft.points.emplace_back(rate, 1e3 * samples.ttft.median());
    latency.points.emplace_back(rate, 1e3 * samples.latency.median());
    rows +=
        fmt::format("<tr><td>{}<td>{:.2f}<td>{:.1f}<td>{:.1f}<td>{:.2f}<td>{:.1f}<td>{}</tr>", escape_html(run.title),
                    run.report.value("request_throughput", 0.0), rate, 1e3 * samples.ttft.median(),
                    1e3 * samples.tpot.median(), 1e3 * samples.latency.median(), samples.failed);
  }
  std::sort(ttft.points.begin(), ttft.points.end());
  std::sort(latency.points.begin(), latency.points.end());
  return "<h2>All runs</h2><div class=scroll><table><tr><th>load<th>requests/s<th>tokens/s<th>TTFT p50 ms<th>TPOT p50 "
         "ms<th>E2EL p50 ms<th>failed</tr>" +
         rows + "</table></div><div class=plots>" +
         line_chart({.title = "latency against throughput",
                     .x_unit = "output tokens/s",
                     .y_unit = "ms",
                     .y_most = 0,
                     .steps = false},
                    {ttft, latency}) +
         "</div>";
}

}  // namespace

std::string html_report(const std::string& title, const std::vector<HtmlRun>& runs) {
  std::string html =
      "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">"
      "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">";
  html += "<title>" + escape_html(title) + "</title><style>" + kStyle + "</style></head><body><h1>" +
          escape_html(title) + "</h1>";
  html += "<p class=soft>" + utc_time() + ", shoal " + escape_html(build_json()["version"].get<std::string>()) + ", " +
          escape_html(machine_json()["name"].get<std::string>()) + "</p>";
  html += sweep_section(runs);
  for (const HtmlRun& run : runs) html += run_section(run);
  return html + "</body></html>\n";
}

}  // namespace shoal::bench
