// SPDX-License-Identifier: Apache-2.0
// shoal bench serve: load on an OpenAI-compatible server, with vLLM's flags and report.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "apps/bench/bench.h"
#include "apps/bench/html_report.h"
#include "apps/bench/machine_info.h"
#include "apps/bench/model_tokens.h"
#include "apps/bench/openai_request.h"
#include "apps/bench/progress.h"
#include "apps/bench/serve_flags.h"
#include "apps/bench/server_info.h"
#include "apps/eplb.h"
#include "base/error.h"
#include "base/json_file.h"

namespace shoal::bench {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kAnyVocabulary = int64_t{1} << 31;
constexpr uint64_t kWarmupSeed = 0x5eed;

struct Measured {
  Json report;
  ServeRun run;
};

// "inf", "5.0", "0.25": as Python writes it.
std::string rate_text(double rate) {
  if (!std::isfinite(rate)) return "inf";
  return rate == std::floor(rate) ? fmt::format("{:.1f}", rate) : fmt::format("{}", rate);
}

bool has_tokenizer(const std::string& directory) {
  return !directory.empty() && fs::exists(fs::path(directory) / "tokenizer.json");
}

class Serve : public Command {
 public:
  const char* name() const override { return "serve"; }
  const char* summary() const override { return "Put load on an OpenAI-compatible server and time its answers"; }
  bool takes_engine_options() const override { return false; }
  void declare(CLI::App& app) override { flags_.declare(app); }

  int run(const EngineConfig& /*config*/) override {
    flags_.settle();
    HttpClient client(flags_.address, flags_.headers, flags_.timeout_s);
    if (flags_.ready_timeout_s > 0) wait_ready(client, flags_.ready_timeout_s);
    find_model(client);
    find_tokens(client);
    if (flags_.bounds.empty()) {
      for (const LoadSetting& setting : flags_.settings) measure(client, setting);
    } else {
      search_rate(client);
    }
    if (runs_.size() > 1) print_table();
    save();
    if (!flags_.html.empty()) write_html();
    const bool any =
        std::any_of(runs_.begin(), runs_.end(), [](const Measured& m) { return m.report["completed"] > 0; });
    if (!any) throw std::runtime_error("no request succeeded");
    return 0;
  }

 private:
  void find_model(HttpClient& client) {
    const bool is_directory = !flags_.model.empty() && fs::is_directory(flags_.model);
    if (is_directory && flags_.tokenizer.empty() && has_tokenizer(flags_.model)) flags_.tokenizer = flags_.model;
    model_ = flags_.served_model_name;
    if (model_.empty() && !is_directory) model_ = flags_.model;
    if (model_.empty()) model_ = first_model(client);
  }

  void find_tokens(HttpClient& client) {
    if (!flags_.tokenizer.empty()) {
      local_.emplace(flags_.tokenizer);
      if (!local_->tokenizer())
        throw Error(ErrorKind::kInvalid, flags_.tokenizer + " has no tokenizer.json; give another --tokenizer");
      tokens_ = local_->text_tokens(kAnyVocabulary);
      return;
    }
    std::string notice;
    tokens_ = server_tokens(client, model_, notice);
    if (!notice.empty() && !flags_.quiet) std::fprintf(stderr, "notice: %s\n", notice.c_str());
  }

  // Chats take text; made-up requests have ids, which are decoded.
  void give_text(HttpClient& client, BenchDataset& data) const {
    if (!flags_.chat()) return;
    for (BenchRequest& request : data.requests) {
      if (!request.text.empty() || !request.messages.is_null()) continue;
      request.text = local_ ? local_->tokenizer()->decode(request.ids, true) : detokenize(client, model_, request.ids);
    }
  }

  BenchDataset make_data(HttpClient& client, uint64_t seed) const {
    DatasetOptions options = flags_.data;
    options.seed = seed;
    BenchDataset data = make_dataset(options, tokens_);
    give_text(client, data);
    return data;
  }

  ServeLoad make_load(const BenchDataset& data) const {
    ServeLoad load;
    load.endpoint = flags_.endpoint;
    const bool made_up = data.path.empty() || data.timed;
    const OpenAiOptions options{
        .model = model_, .chat = flags_.chat(), .ignore_eos = flags_.ignore_eos || made_up, .extra = flags_.extra};
    Problems problems;
    size_t bad = 0;
    for (size_t i = 0; i < data.requests.size(); ++i) {
      try {
        load.bodies.push_back(
            openai_body(options, data.requests[i]).dump(-1, ' ', false, Json::error_handler_t::replace));
      } catch (const Error& error) {
        if (++bad <= kShownProblems) problems.add(fmt::format("request {}: {}", i, error.what()));
      }
      load.input_tokens.push_back(static_cast<int64_t>(data.requests[i].ids.size()));
      load.due_s.push_back(data.requests[i].at_s);
    }
    problems.throw_if_any(fmt::format("{} of {} requests cannot be sent", bad, data.requests.size()));
    return load;
  }

  // With prompts of their own where they can be made up, so that the measured ones are not in the server's cache.
  void warm_up(HttpClient& client, const BenchDataset& data) const {
    if (flags_.num_warmups == 0) return;
    BenchDataset warm = data;
    warm.requests.clear();
    if (!tokens_.ordinary.empty()) {
      DatasetOptions options;
      options.count = flags_.num_warmups;
      options.seed = flags_.data.seed ^ kWarmupSeed;
      options.input_len = std::max<int64_t>(1, static_cast<int64_t>(data.requests.front().ids.size()));
      options.output_len = data.requests.front().output_tokens;
      warm = make_dataset(options, tokens_);
      give_text(client, warm);
    }
    while (static_cast<int64_t>(warm.requests.size()) < flags_.num_warmups)
      warm.requests.push_back(data.requests[warm.requests.size() % data.requests.size()]);
    ServeLoad load = make_load(warm);
    std::fill(load.due_s.begin(), load.due_s.end(), 0.0);
    load.max_concurrency = flags_.max_concurrency;
    ProgressBar bar("warm-up", flags_.num_warmups, flags_.quiet);
    load.on_progress = [&](int64_t done, int64_t generated) { bar.update(done, generated); };
    run_load(client, load);
  }

  const Measured& measure(HttpClient& client, const LoadSetting& setting) {
    // Prompts of earlier runs may be in the server's cache.
    const BenchDataset data = make_data(client, flags_.data.seed + runs_.size());
    if (runs_.empty()) warm_up(client, data);
    ServeLoad load = make_load(data);
    load.max_concurrency = setting.max_concurrency;
    ArrivalOptions arrivals = flags_.arrivals;
    arrivals.request_rate = setting.request_rate;
    if (!data.timed) load.due_s = arrival_times(arrivals, static_cast<int64_t>(data.requests.size()));
    const ServerState before = read_server(client);
    ProgressBar bar("serve", static_cast<int64_t>(data.requests.size()), flags_.quiet);
    load.on_progress = [&](int64_t done, int64_t generated) { bar.update(done, generated); };
    Measured measured;
    measured.run = run_load(client, load);
    const ServerState after = read_server(client);
    ServeReportOptions options = flags_.report;
    options.request_rate = setting.request_rate;
    options.max_concurrency = setting.max_concurrency;
    const Json figures = serve_report(measured.run, options);
    measured.report = heading(setting, data);
    measured.report.update(figures);
    measured.report["server"] = server_json(before, after);
    measured.report["client"] = {{"machine", machine_json()}, {"build", build_json()}};
    const std::string text = serve_report_text(figures, options);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    runs_.push_back(std::move(measured));
    return runs_.back();
  }

  Json heading(const LoadSetting& setting, const BenchDataset& data) const {
    Json head = {{"date", fmt::format("{:%Y%m%d-%H%M%S}", fmt::localtime(std::time(nullptr)))},
                 {"endpoint_type", flags_.backend},
                 {"backend", flags_.backend},
                 {"label", flags_.label.empty() ? Json() : Json(flags_.label)},
                 {"model_id", model_},
                 {"tokenizer_id", flags_.tokenizer.empty() ? Json() : Json(flags_.tokenizer)},
                 {"num_prompts", data.requests.size()}};
    for (const auto& [key, value] : flags_.metadata) head[key] = value;
    head["request_rate"] = std::isfinite(setting.request_rate) ? Json(setting.request_rate) : Json("inf");
    head["burstiness"] = std::isfinite(flags_.arrivals.burstiness) ? Json(flags_.arrivals.burstiness) : Json("inf");
    head["max_concurrency"] = setting.max_concurrency > 0 ? Json(setting.max_concurrency) : Json();
    if (!flags_.arrivals.ramp_up_strategy.empty()) {
      head["ramp_up_strategy"] = flags_.arrivals.ramp_up_strategy;
      head["ramp_up_start_rps"] = flags_.arrivals.ramp_up_start_rps;
      head["ramp_up_end_rps"] = flags_.arrivals.ramp_up_end_rps;
    }
    head["dataset_name"] = data.name;
    head["dataset_path"] = data.path.empty() ? Json() : Json(data.path);
    return head;
  }

  // All at once shows what the server can do at most; that rate is the search's upper end.
  void search_rate(HttpClient& client) {
    const auto try_rate = [&](double rate) {
      return keeps(measure(client, {.request_rate = rate, .max_concurrency = flags_.max_concurrency}).report,
                   flags_.bounds);
    };
    const Measured& flood = measure(client, flags_.settings.front());
    keeps(flood.report, flags_.bounds);  // bounds of unknown figures are refused now
    const double most = flood.report["request_throughput"];
    if (most <= 0) return;
    const double found = find_rate({.high = most, .lowest = most / 64, .precision = 0.05}, try_rate);
    runs_.back().report["found_rate"] = found;
    if (found > 0) {
      fmt::print("highest request rate that keeps the bounds: {:.3f} requests/s\n", found);
    } else {
      fmt::print("no request rate down to {:.3f} requests/s keeps the bounds\n", most / 64);
    }
  }

  void print_table() const {
    fmt::print("\n{:>10} {:>12} {:>10} {:>12} {:>12} {:>12} {:>12} {:>8}\n", "rate", "concurrency", "req/s", "tokens/s",
               "TTFT p50", "TPOT p50", "E2EL p50", "failed");
    for (const Measured& measured : runs_) {
      const RunSamples samples = samples_of(measured.run.records);
      const Json& report = measured.report;
      fmt::print(
          "{:>10} {:>12} {:>10.2f} {:>12.1f} {:>12.1f} {:>12.2f} {:>12.1f} {:>8}\n",
          report["request_rate"].is_string() ? "inf" : fmt::format("{:.2f}", report["request_rate"].get<double>()),
          report["max_concurrency"].is_null() ? "-" : report["max_concurrency"].dump(),
          report["request_throughput"].get<double>(), report["output_throughput"].get<double>(),
          1e3 * samples.ttft.median(), 1e3 * samples.tpot.median(), 1e3 * samples.latency.median(),
          report["failed"].dump());
    }
  }

  std::string file_name() const {
    std::string name = flags_.result_filename;
    if (name.empty()) {
      const Json& report = runs_.front().report;
      const std::string model = fs::path(model_).filename().string();
      const std::string load = flags_.max_concurrency > 0 ? fmt::format("-concurrency{}", flags_.max_concurrency) : "";
      name = fmt::format("{}-{}qps{}-{}-{}.json", flags_.label.empty() ? flags_.backend : flags_.label,
                         rate_text(flags_.arrivals.request_rate), load, model, report["date"].get<std::string>());
    }
    if (flags_.result_dir.empty()) return name;
    std::error_code error;
    fs::create_directories(flags_.result_dir, error);
    return (fs::path(flags_.result_dir) / name).string();
  }

  // One object, or one a line: of several runs, or behind those that the file has.
  void save() const {
    if (!flags_.save_result && !flags_.append_result) return;
    std::string text;
    const std::string file = file_name();
    if (flags_.append_result && fs::is_regular_file(file)) {
      std::ifstream in(file, std::ios::binary);
      text.assign(std::istreambuf_iterator<char>(in), {});
      if (!text.empty() && text.back() != '\n') text += '\n';
    }
    for (const Measured& measured : runs_) {
      Json report = measured.report;
      if (flags_.save_detailed) report.update(serve_details(measured.run));
      text += report.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    }
    write_text_file(file, text);
    if (!flags_.quiet) std::fprintf(stderr, "saved    %s\n", file.c_str());
  }

  void write_html() const {
    std::vector<HtmlRun> runs;
    for (const Measured& measured : runs_) {
      const Json& report = measured.report;
      const std::string rate =
          report["request_rate"].is_string() ? "all at once" : rate_text(report["request_rate"]) + " requests/s";
      runs.push_back({.title = report["max_concurrency"].is_null()
                                   ? rate
                                   : fmt::format("{}, at most {} at once", rate, report["max_concurrency"].dump()),
                      .report = report,
                      .records = measured.run.records,
                      .load = {}});
    }
    write_text_file(flags_.html, html_report("shoal bench serve: " + model_, runs));
  }

  ServeFlags flags_;
  std::string model_;
  std::optional<ModelTokens> local_;
  TextTokens tokens_;
  std::vector<Measured> runs_;
};

}  // namespace

std::unique_ptr<Command> serve_bench_command() { return std::make_unique<Serve>(); }

}  // namespace shoal::bench
