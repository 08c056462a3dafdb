// SPDX-License-Identifier: Apache-2.0
// shoal serve: a model behind an OpenAI-compatible HTTP interface.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>

#include "apps/command.h"
#include "apps/report.h"
#include "base/error.h"
#include "base/options.h"
#include "engine/model_setup.h"
#include "server/fault_injection.h"
#include "server/process_stats.h"
#include "server/server.h"
#include "server/status.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

constexpr int kMostRows = 16;  // of the banner's table

// Each connection takes a descriptor; the limit that a shell sets is often 1024.
void raise_descriptor_limit(int64_t wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= static_cast<rlim_t>(wanted)) return;
  limit.rlim_cur = std::min(limit.rlim_max, static_cast<rlim_t>(wanted));
  setrlimit(RLIMIT_NOFILE, &limit);
}

void say(const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }

class Serve : public Command {
 public:
  const char* name() const override { return "serve"; }
  const char* summary() const override { return "Serve a model over HTTP, as OpenAI's API"; }

  void declare(CLI::App& app) override {
    app_ = &app;
    app.add_option("MODEL", model_, "model directory: config.json, *.safetensors, tokenizer.json")->required();
    app.add_option("--host", settings_.http.host, "address to listen on; 0.0.0.0: all")->capture_default_str();
    app.add_option("--port", settings_.http.port, "0: any free one")
        ->capture_default_str()
        ->check(CLI::Range(0, 65535));
    app.add_option("--served-model-name", settings_.api.model_names,
                   "name by which requests ask for the model; may be repeated; else the directory's and its path")
        ->allow_extra_args(false);
    declare_access(app);
    declare_limits(app);
    declare_times(app);
    app.add_flag("--strict-requests", settings_.api.limits.strict, "refuse requests with unknown fields");
    app.add_flag("!--no-generation-config", settings_.generation_config,
                 "sampling defaults are OpenAI's, not the model's generation_config.json");
    app.add_option("--ui-dir", settings_.ui_folder, "folder whose index.html is the dashboard's page; for work on it");
    app.add_flag("--log-json", settings_.log_json, "the log's lines are JSON objects");
    app.add_flag("!--no-access-log", settings_.log_requests, "no line for each request");
    app.add_flag("--print-config", print_config_, "print every setting as YAML with its source, and end");
    app.add_option("--inject", faults_,
                   "a fault on purpose: rank=3,step=100,kill or rank=3,step=100,stall=2s; may be repeated")
        ->allow_extra_args(false);
  }

  int run(const EngineConfig& config) override {
    prepare(config);
    if (print_config_) {
      std::fputs(settings_yaml(settings_.effective).c_str(), stdout);
      return 0;
    }
    set_up_model(model_, config, SetupFor::kRunning);  // what is wrong is said before anything else happens
    raise_descriptor_limit(settings_.http.max_connections + 256);
    const auto wrap = faults();
    Server server(settings_, [&](EngineHooks hooks) {
      hooks.wrap_model = wrap;
      hooks.on_planned = [](const Engine& engine) { print_layout(engine); };
      return std::make_unique<Engine>(model_, config, hooks);
    });
    url_ = fmt::format("{}://{}:{}", settings_.http.tls_cert.empty() ? "http" : "https",
                       settings_.http.host == "0.0.0.0" ? "127.0.0.1" : settings_.http.host, server.port());
    say(fmt::format("listening on {}; the model is being loaded", url_));
    warn_if_open();
    begin_ = std::chrono::steady_clock::now();
    server.host().listen([&](const HostStatus& status) { show(server.host(), status); });
    server.run();
    return 0;
  }

 private:
  void declare_access(CLI::App& app) {
    app.add_option("--api-key", settings_.api_keys, "key that clients must send; may be repeated")
        ->allow_extra_args(false);
    app.add_option("--api-key-file", settings_.api_key_file, "file of such keys, one a line; SIGHUP reads it again");
    app.add_option("--admin-key", settings_.admin_key,
                   "key for the routes that control the server; else an API key does");
    app.add_option("--tls-cert", settings_.http.tls_cert,
                   "certificate chain, PEM; with --tls-key; SIGHUP reads both again");
    app.add_option("--tls-key", settings_.http.tls_key, "its key, PEM");
    app.add_option("--allowed-origin", settings_.allowed_origin,
                   "origin of web pages that may ask, or *; else none but the server's own");
  }
  void declare_limits(CLI::App& app) {
    const auto limit = [&](const char* flag, int64_t& field, const char* help, double least = 1) {
      app.add_option(flag, field, help)->capture_default_str()->check(CLI::Range(least, 1e12));
    };
    limit("--max-queue", settings_.api.max_queue, "sequences that wait; more are refused with 429");
    limit("--max-n", settings_.api.limits.max_n, "choices of a request");
    limit("--max-stop", settings_.api.limits.max_stop, "stop strings of a request");
    limit("--max-logprobs", settings_.api.limits.max_logprobs, "alternatives told for each token", 0);
    limit("--max-prompts", settings_.api.limits.max_prompts, "sequences of a request: prompts x n");
    limit("--max-connections", settings_.http.max_connections, "connections open at once");
    limit("--max-body-bytes", settings_.http.max_body_bytes, "of a request");
    limit("--max-header-bytes", settings_.http.max_header_bytes, "of a request");
    limit("--http-workers", settings_.http.workers, "threads that tokenise and fill in templates");
  }
  void declare_times(CLI::App& app) {
    const auto seconds = [&](const char* flag, double& field, const char* help) {
      app.add_option(flag, field, help)->capture_default_str()->check(CLI::Range(0.0, 1e6));
    };
    seconds("--drain-timeout", settings_.drain_seconds, "seconds that running requests get after SIGTERM");
    seconds("--stall-seconds", settings_.host.stall_seconds, "a rank longer in one step: /health/ready is 503");
    seconds("--header-timeout", settings_.http.header_seconds, "seconds for a request's header to come");
    seconds("--idle-timeout", settings_.http.idle_seconds, "seconds that a connection may wait between requests");
    seconds("--ping-seconds", settings_.http.ping_seconds, "a stream silent for so long gets a comment");
  }

  void prepare(const EngineConfig& config) {
    if (settings_.http.tls_cert.empty() != settings_.http.tls_key.empty())
      throw Error(ErrorKind::kInvalid, "--tls-cert and --tls-key go together; give both or neither");
    if (!fs::is_directory(model_))
      throw Error(ErrorKind::kInvalid,
                  model_ + " is not a directory; give a model directory with config.json and *.safetensors");
    settings_.api.model_dir = model_;
    settings_.api.ping_seconds = settings_.http.ping_seconds;
    settings_.host.abort_seconds = config.comm_timeout_s;
    if (settings_.api.model_names.empty()) {
      const fs::path path = fs::canonical(model_);
      settings_.api.model_names = {path.filename().string(), model_};
    }
    settings_.effective = effective(config);
  }

  bool needs_key() const { return !settings_.api_keys.empty() || !settings_.api_key_file.empty(); }

  void warn_if_open() const {
    const std::string& host = settings_.http.host;
    const bool local = host.starts_with("127.") || host == "localhost" || host == "::1";
    if (local || needs_key()) return;
    say("warning: " + host +
        " can be reached from other machines, and no --api-key is set: anybody may use this server");
  }

  std::function<std::unique_ptr<StageModel>(int, std::unique_ptr<StageModel>)> faults() const {
    std::vector<FaultPlan> plans;
    for (const std::string& text : faults_) plans.push_back(parse_fault(text));
    return plans.empty() ? nullptr : inject(plans);
  }

  // The engine's options, then this command's flags but for secrets.
  std::vector<Setting> effective(EngineConfig config) const {
    std::vector<Setting> list;
    const std::map<std::string, std::string> origins = config.origins;
    const OptionTable table = engine_options(config);
    for (const Option& option : table.rows()) {
      const auto found = origins.find(option.name);
      const std::string text = value_text(option);
      const bool word = std::holds_alternative<std::string*>(option.field);
      const Json value = text.empty() ? Json() : word ? Json(text) : Json::parse(text, nullptr, false);
      list.push_back({option.name, value.is_discarded() ? Json(text) : value,
                      found == origins.end() ? "default" : found->second, option.help});
    }
    for (const CLI::Option* option : app_->get_options()) {
      if (option->get_lnames().empty() || option->check_lname("help") || option->check_lname("print-config")) continue;
      const std::string name = option->get_lnames().front();
      const bool secret = name == "api-key" || name == "admin-key";
      const std::string given =
          option->count() == 0 ? option->get_default_str() : fmt::format("{}", fmt::join(option->results(), ","));
      const Json value = Json::parse(given, nullptr, false);
      const bool is_switch = option->get_expected_min() == 0;
      Json shown = value.is_number() ? value : Json(given);
      if (is_switch) shown = option->count() > 0;
      if (secret) shown = option->count() > 0 ? "(set)" : "";
      list.push_back({"--" + name, shown, option->count() > 0 ? "--" + name : "default", option->get_description()});
    }
    return list;
  }

  // On the host's thread.
  void show(EngineHost& host, const HostStatus& status) {
    if (status.state == HostState::kLoading && status.total_bytes > 0)
      bar_.update(status.loaded_bytes, status.total_bytes);
    if (status.state != HostState::kReady || std::exchange(told_, true)) return;
    if (const auto engine = host.engine()) print_ready(*engine);
  }

  static void print_memory(const Engine& engine) {
    const auto bytes = [](int64_t value) { return format_bytes(static_cast<double>(value)); };
    const std::vector<int64_t> held = engine.peak_bytes();  // nothing was given back since the start
    int64_t all_planned = 0, all_held = 0;
    int row = 0;
    say("rank  dp pp cp tp   weights      KV cache     one step     planned      held");
    for (const RankFacts& rank : engine_facts(engine).ranks) {
      const int64_t planned = rank.weight_bytes + rank.kv_bytes + rank.activation_bytes;
      if (row < kMostRows)
        say(fmt::format("{:>4}  {:>2} {:>2} {:>2} {:>2}   {:<12} {:<12} {:<12} {:<12} {}", row, rank.at.dp, rank.at.pp,
                        rank.at.cp, rank.at.tp, bytes(rank.weight_bytes), bytes(rank.kv_bytes),
                        bytes(rank.activation_bytes), bytes(planned), bytes(held[row])));
      all_planned += planned;
      all_held += held[row++];
    }
    say(fmt::format("memory   {} planned in {} ranks, {} held until the first step; the process has {} resident",
                    bytes(all_planned), row, bytes(all_held), bytes(read_process_stats().resident_bytes)));
  }

  void print_ready(const Engine& engine) const {
    const EngineInfo& info = engine.info();
    const GridSizes& sizes = engine.mesh().sizes();
    print_memory(engine);
    const double tokens = static_cast<double>(info.kv.tokens) * sizes.attention_data * sizes.data;
    say(fmt::format("KV cache {} tokens: {:.1f} requests of {} tokens at once", static_cast<int64_t>(tokens),
                    tokens / static_cast<double>(info.max_seq_len), info.max_seq_len));
    for (const Setting& setting : settings_.effective)
      if (setting.source != "default")
        say(fmt::format("set      {} = {} ({})", setting.name, setting.value.dump(), setting.source));
    say(fmt::format("ready    in {:.1f} s: {}   dashboard {}/   metrics {}/metrics",
                    std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(), url_, url_,
                    url_));
    say(fmt::format(
        "try      curl {}{}/v1/chat/completions -H 'content-type: application/json'{} -d "
        "'{{\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}],\"max_tokens\":32}}'",
        settings_.http.tls_cert.empty() ? "" : "-k ", url_, !needs_key() ? "" : " -H \"authorization: Bearer $KEY\""));
  }

  CLI::App* app_ = nullptr;
  std::string model_, url_;
  ServerSettings settings_;
  std::vector<std::string> faults_;
  bool print_config_ = false;
  LoadBar bar_;
  bool told_ = false;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace

std::unique_ptr<Command> serve_command() { return std::make_unique<Serve>(); }

}  // namespace shoal
