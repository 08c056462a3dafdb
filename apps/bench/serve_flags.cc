// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/serve_flags.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <sstream>

#include "apps/bench/dataset_flags.h"
#include "base/json_file.h"

namespace shoal::bench {
namespace {

constexpr int64_t kMostConcurrency = 20'000;  // connections

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) parts.push_back(part);
  return parts;
}

// A whole text as a number.
std::optional<double> number_of(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != 0 || std::isnan(value)) return {};
  return value;
}

// "KEY=VALUE", or nothing.
std::optional<std::pair<std::string, std::string>> pair_of(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) return {};
  return std::pair{text.substr(0, equals), text.substr(equals + 1)};
}

}  // namespace

void ServeFlags::declare(CLI::App& app) {
  declare_server(app);
  declare_dataset_flags(app, data);
  declare_arrival_flags(app, arrivals);
  app.add_option("--max-concurrency", max_concurrency, "requests at the server at most; 0: no bound")
      ->group("Arrivals");
  app.add_option("--sweep", sweep_, "a run for each: concurrency=1,4,16 or request-rate=1,2,4")->group("Arrivals");
  app.add_option("--find-rate", find_rate_,
                 "highest request rate that keeps bounds, such as p99_ttft_ms<=500,p99_itl_ms<=50")
      ->group("Arrivals");
  app.add_option("--num-warmups", num_warmups, "requests sent before, in no figure")->group("Arrivals");
  declare_sampling(app);
  declare_results(app);
}

void ServeFlags::declare_server(CLI::App& app) {
  const auto add = [&](const char* names, auto& field, const char* help) {
    return app.add_option(names, field, help)->capture_default_str()->group("Server");
  };
  add("--base-url", base_url_, "http://host:port of the server, or https; else --host and --port");
  add("--host", host_, "of the server");
  add("--port", port_, "of the server");
  add("--backend", backend, "openai: /v1/completions; openai-chat: /v1/chat/completions");
  add("--endpoint", endpoint, "route, if another one");
  add("--header", header_, "KEY=VALUE of each request; OPENAI_API_KEY is sent as the key");
  add("--model", model, "name of the model, or its directory; default: the server's first");
  add("--served-model-name", served_model_name, "name of the model at the server, if --model is a directory");
  add("--tokenizer", tokenizer, "model directory whose tokenizer to use; default: the server's /tokenize");
  add("--ready-check-timeout-sec", ready_timeout_s, "wait this long for the server to be ready");
  app.add_flag("--insecure", insecure_, "https: any certificate will do")->group("Server");
  add("--timeout", timeout_s, "seconds without a byte, after which a request fails");
}

void ServeFlags::declare_sampling(CLI::App& app) {
  const auto add = [&](const char* names, auto& field, const char* help) {
    app.add_option(names, field, help)->group("Sampling");
  };
  add("--temperature", temperature_, "default: the server's");
  add("--top-p", top_p_, "default: the server's");
  add("--top-k", top_k_, "default: the server's");
  add("--min-p", min_p_, "default: the server's");
  add("--frequency-penalty", frequency_penalty_, "default: the server's");
  add("--presence-penalty", presence_penalty_, "default: the server's");
  add("--repetition-penalty", repetition_penalty_, "default: the server's");
  add("--extra-body", extra_body_, "JSON object of more fields of each request");
  app.add_flag("--ignore-eos", ignore_eos, "go on after end tokens; always so for made-up requests")->group("Sampling");
}

void ServeFlags::declare_results(CLI::App& app) {
  const auto add = [&](const char* names, auto& field, const char* help) {
    app.add_option(names, field, help)->capture_default_str()->group("Results");
  };
  add("--percentile-metrics", percentile_metrics_,
      "of ttft, tpot, itl, e2el, client_queue_time, e2el_including_client_queue");
  add("--metric-percentiles", metric_percentiles_, "from 0 to 100, with commas between");
  add("--goodput", goodput_, "bounds in ms that a good request keeps: ttft:300 tpot:50 e2el:5000");
  add("--result-dir", result_dir, "where to save");
  add("--result-filename", result_filename, "the file's name");
  add("--label", label, "of the result and its file; default: the backend");
  add("--metadata", metadata_, "KEY=VALUE to save with the result");
  add("--html", html, "file for a report with plots, which needs nothing else");
  app.add_flag("--save-result", save_result, "save the report as JSON")->group("Results");
  app.add_flag("--save-detailed", save_detailed, "and each request's numbers and text")->group("Results");
  app.add_flag("--append-result", append_result, "behind what the file holds already")->group("Results");
  app.add_flag("--disable-tqdm,--quiet", quiet, "no progress bar")->group("Results");
}

void ServeFlags::settle() {
  settle_dataset_name(data);
  if (data.count == 0 && (data.name.empty() ? data.path.empty() : data.name != "jsonl" && data.name != "trace"))
    data.count = kDefaultRequests;
  arrivals.seed = data.seed;
  Problems problems;
  problems.append(dataset_problems(data));
  problems.append(arrival_problems(arrivals));
  settle_server(problems);
  settle_report(problems);
  settle_goodput(problems);
  settle_extra(problems);
  settle_sweep(problems);
  problems.throw_if_any("bench serve cannot run");
}

void ServeFlags::settle_server(Problems& problems) {
  if (backend == "vllm") backend = "openai";
  if (backend != "openai" && backend != "openai-chat")
    problems.add(fmt::format("--backend is {}, must be openai or openai-chat", printable(backend, 40)));
  if (endpoint.empty()) endpoint = chat() ? "/v1/chat/completions" : "/v1/completions";
  if (!endpoint.starts_with('/'))
    problems.add(fmt::format("--endpoint is {}, must begin with /", printable(endpoint, 40)));
  if (max_concurrency < 0 || max_concurrency > kMostConcurrency)
    problems.add(fmt::format("--max-concurrency is {}, must be from 1 to {}, or 0", max_concurrency, kMostConcurrency));
  if (num_warmups < 0) problems.add(fmt::format("--num-warmups is {}, must not be negative", num_warmups));
  if (!(timeout_s > 0)) problems.add(fmt::format("--timeout is {}, must be above 0", timeout_s));
  try {
    const bool is_v6 = host_.find(':') != std::string::npos;
    address = parse_base_url(
        !base_url_.empty() ? base_url_ : fmt::format("http://{}:{}", is_v6 ? "[" + host_ + "]" : host_, port_));
    address.verify = !insecure_;
  } catch (const Error& error) {
    problems.add(error.what());
  }
  if (const char* key = std::getenv("OPENAI_API_KEY"); key != nullptr && *key != 0)
    headers.emplace_back("Authorization", std::string("Bearer ") + key);
  for (const std::string& text : header_) {
    const auto header = pair_of(text);
    const bool clean = text.find_first_of("\r\n") == std::string::npos;
    if (header && clean) headers.push_back(*header);
    if (!header || !clean) problems.add(fmt::format("--header {} must be KEY=VALUE", printable(text, 40)));
  }
}

void ServeFlags::settle_report(Problems& problems) {
  report.metrics = split(percentile_metrics_, ',');
  for (const std::string& name : report.metrics) {
    if (!is_metric(name))
      problems.add(
          fmt::format("--percentile-metrics has {}, must be of ttft, tpot, itl, e2el, client_queue_time, "
                      "e2el_including_client_queue",
                      printable(name, 40)));
  }
  report.percentiles.clear();
  for (const std::string& text : split(metric_percentiles_, ',')) {
    const std::optional<double> value = number_of(text);
    if (value && *value >= 0 && *value <= 100) report.percentiles.push_back(*value);
    if (!value || *value < 0 || *value > 100)
      problems.add(fmt::format("--metric-percentiles has {}, must be from 0 to 100", printable(text, 40)));
  }
  for (const std::string& text : metadata_) {
    const auto entry = pair_of(text);
    if (entry) metadata.push_back(*entry);
    if (!entry) problems.add(fmt::format("--metadata {} must be KEY=VALUE", printable(text, 40)));
  }
  if (save_detailed && !append_result) save_result = true;
}

void ServeFlags::settle_goodput(Problems& problems) {
  for (const std::string& text : goodput_) {
    const size_t colon = text.find(':');
    const std::string name = text.substr(0, colon);
    const std::optional<double> value = colon == std::string::npos ? std::nullopt : number_of(text.substr(colon + 1));
    double* bound = name == "ttft"   ? &report.goodput.ttft_ms
                    : name == "tpot" ? &report.goodput.tpot_ms
                    : name == "e2el" ? &report.goodput.e2el_ms
                                     : nullptr;
    if (bound == nullptr || !value || *value < 0) {
      problems.add(fmt::format("--goodput {} must be ttft:MS, tpot:MS or e2el:MS", printable(text, 40)));
      continue;
    }
    *bound = *value;
  }
}

void ServeFlags::settle_extra(Problems& problems) {
  const auto set = [&](const char* key, const auto& value) {
    if (value) extra[key] = *value;
  };
  set("temperature", temperature_);
  set("top_p", top_p_);
  set("top_k", top_k_);
  set("min_p", min_p_);
  set("frequency_penalty", frequency_penalty_);
  set("presence_penalty", presence_penalty_);
  set("repetition_penalty", repetition_penalty_);
  if (extra_body_.empty()) return;
  try {
    const nlohmann::ordered_json more = parse_json(extra_body_, "--extra-body");
    if (!more.is_object()) throw Error(ErrorKind::kInvalid, "--extra-body must be a JSON object");
    for (const auto& [key, value] : more.items()) extra[key] = value;
  } catch (const Error& error) {
    problems.add(error.what());
  }
}

void ServeFlags::settle_sweep(Problems& problems) {
  try {
    if (!find_rate_.empty()) bounds = parse_bounds(find_rate_);
  } catch (const Error& error) {
    problems.add(error.what());
  }
  if (!bounds.empty() &&
      (!sweep_.empty() || std::isfinite(arrivals.request_rate) || !arrivals.ramp_up_strategy.empty()))
    problems.add("--find-rate chooses the rates; leave --sweep, --request-rate and --ramp-up-strategy out");
  settings = {{.request_rate = arrivals.request_rate, .max_concurrency = max_concurrency}};
  const auto sweep = pair_of(sweep_);
  if (sweep_.empty()) return;
  const std::string name = sweep ? sweep->first : "";
  const bool by_rate = name == "request-rate" || name == "request_rate";
  settings.clear();
  for (const std::string& text : split(sweep ? sweep->second : "", ',')) {
    const double value = number_of(text).value_or(0);
    LoadSetting setting{.request_rate = arrivals.request_rate, .max_concurrency = max_concurrency};
    if (by_rate) setting.request_rate = value;
    if (!by_rate) setting.max_concurrency = static_cast<int64_t>(std::min<double>(value, kMostConcurrency));
    if (!(value > 0) || (!by_rate && value != std::floor(value)))
      problems.add(fmt::format("--sweep has {}, must be above 0", printable(text, 40)));
    settings.push_back(setting);
  }
  const bool known = by_rate || name == "concurrency" || name == "max-concurrency" || name == "max_concurrency";
  if (!known || settings.empty())
    problems.add(fmt::format("--sweep is {}, must be concurrency=1,4,16 or request-rate=1,2,4", printable(sweep_, 40)));
}

}  // namespace shoal::bench
