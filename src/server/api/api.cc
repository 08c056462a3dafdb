// SPDX-License-Identifier: Apache-2.0
#include "server/api/api.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/json_file.h"
#include "base/version.h"
#include "server/health.h"
#include "server/status.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

constexpr auto kSessionTick = std::chrono::milliseconds(500);
constexpr double kLongestRetry = 60;

// FNV-1a of config.json and of the weights' names and sizes: models that differ differ here, but for weights of equal size.
std::string hash_of_model(const fs::path& model_dir) {
  std::ostringstream text;
  text << std::ifstream(model_dir / "config.json").rdbuf();
  std::vector<std::string> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(model_dir, ignored))
    if (entry.path().extension() == ".safetensors")
      files.push_back(fmt::format("{} {}", entry.path().filename().string(), entry.file_size(ignored)));
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) text << file;
  uint32_t hash = 2166136261u;
  for (const unsigned char byte : text.str()) hash = (hash ^ byte) * 16777619u;
  return fmt::format("{:08x}", hash);
}

void check_media_type(const HttpRequest& request) {
  const std::string_view coding = request.headers.get("content-encoding");
  if (!coding.empty() && !same_header(coding, "identity")) {
    ApiError error(415, "unsupported_media_type", fmt::format("the content encoding is {}", printable(coding)));
    error.hint = "send the body as it is";
    throw error;
  }
  const std::string_view type = request.headers.get("content-type");
  const std::string_view bare = type.substr(0, type.find(';'));
  if (bare.empty() || bare.ends_with("json") || bare.starts_with("application/x-www-form-urlencoded"))
    return;  // curl -d
  ApiError error(415, "unsupported_media_type", fmt::format("the content type is {}", printable(bare)));
  error.hint = "send JSON with content-type: application/json";
  throw error;
}

class Countdown {
 public:
  explicit Countdown(std::atomic<int64_t>& count) : count_(count) {}
  ~Countdown() { --count_; }
  Countdown(const Countdown&) = delete;

 private:
  std::atomic<int64_t>& count_;
};

}  // namespace

Api::Api(EngineHost& host, ServerMetrics& metrics, ApiSettings settings)
    : host_(host), metrics_(metrics), settings_(std::move(settings)), model_hash_(hash_of_model(settings_.model_dir)) {}

void Api::connect(HttpServer& http) {
  http_ = &http;
  http.every(kSessionTick, [this] {
    const auto now = Session::Clock::now();
    for (const auto& session : sessions_.all()) session->check_time(now, settings_.ping_seconds);
  });
}

void Api::set_model(std::shared_ptr<const ModelText> model) {
  const std::lock_guard lock(mutex_);
  model_ = std::move(model);
}

std::shared_ptr<const ModelText> Api::model() const {
  const std::lock_guard lock(mutex_);
  return model_;
}

std::shared_ptr<const ModelText> Api::need_model() const {
  auto loaded = model();
  if (!loaded) throw not_ready(HostStatus{}).value();
  return loaded;
}

// --- generation

void Api::admit(const std::shared_ptr<Exchange>& exchange, Reader reader) {
  if (const auto problem = not_ready(host_.status())) {
    metrics_.refused(problem->code);
    throw *problem;
  }
  check_media_type(exchange->request());
  check_queue();
  ++admitted_;
  http_->post_worker([this, exchange, reader, arrived = Session::Clock::now()] {
    const Countdown countdown(admitted_);
    try {
      run(exchange, reader, arrived);
    } catch (...) {
      exchange->reply(error_reply(current_api_error(), exchange->request().id));
    }
  });
}

void Api::check_queue() const {
  const int64_t waiting = metrics_.waiting() + admitted_;
  if (waiting < settings_.max_queue) return;
  metrics_.refused("queue_full");
  ApiError error(429, "queue_full",
                 fmt::format("{} requests wait already, the most that this server lets wait", waiting));
  error.hint = "try again later, or start the server with a larger --max-queue";
  error.retry_after = std::clamp(std::ceil(metrics_.oldest_waiting_seconds()), 1.0, kLongestRetry);
  throw error;
}

void Api::run(const std::shared_ptr<Exchange>& exchange, Reader reader, Session::Clock::time_point arrived) {
  if (exchange->closed()) return;
  const auto engine = host_.engine();
  if (!engine) throw not_ready(host_.status()).value_or(ApiError(503, "loading", "the model is being loaded"));
  const auto model = need_model();
  Generation request = reader(parse_body(exchange->request().body), *model, settings_.limits);
  check_model(request.model);
  settle_tokens(*engine, request);
  const auto session = std::make_shared<Session>(
      SessionContext{.model = model,
                     .model_name = request.model.empty() ? settings_.model_names.front() : request.model,
                     .fingerprint = fingerprint(*engine),
                     .metrics = metrics_,
                     .sessions = sessions_,
                     .post = [http = http_](std::function<void()> job) { http->post(std::move(job)); }},
      std::move(request), exchange);
  session->start(engine, arrived);
}

void Api::check_model(const std::string& name) const {
  const auto& names = settings_.model_names;
  if (name.empty() || std::find(names.begin(), names.end(), name) != names.end()) return;
  ApiError error(404, "model_not_found", fmt::format("there is no model {}", printable(name)));
  error.param = "model";
  error.hint = fmt::format("use {}", fmt::join(names, " or "));
  throw error;
}

// How many tokens may come, within what the server has room for.
void Api::settle_tokens(const Engine& engine, Generation& request) const {
  const char* param = request.chat ? "messages" : "prompt";
  if (std::ssize(request.prompts) * request.n > settings_.limits.max_prompts)
    throw ApiError(400, "invalid_value",
                   fmt::format("{} prompts of n {} are more than {} sequences", request.prompts.size(), request.n,
                               settings_.limits.max_prompts));
  int64_t longest = 0;
  for (const auto& prompt : request.prompts) {
    longest = std::max(longest, std::ssize(prompt));
    if (!prompt.empty()) continue;
    ApiError error(400, "invalid_value", "the prompt has no tokens; at least one is needed");
    error.param = param;
    throw error;
  }
  const int64_t limit = engine.info().max_seq_len;
  const int64_t asked = request.max_tokens.value_or(1);
  if (longest + asked > limit) {
    ApiError error(400, "context_length_exceeded",
                   fmt::format("the prompt has {} tokens and {} more are asked for, but this server's limit is {}",
                               longest, asked, limit));
    error.param = param;
    error.hint = fmt::format(
        "shorten the prompt or max_tokens by {} tokens, or start the server with a larger "
        "--max-seq-len",
        longest + asked - limit);
    throw error;
  }
  const int64_t room = std::min(limit, std::max<int64_t>(engine.info().kv.tokens, longest + 1)) - longest;
  request.params.max_tokens = request.max_tokens.value_or(room);
  try {
    SamplingParams params = request.params;
    params.max_tokens = std::max<int64_t>(1, params.max_tokens);  // 0: an echo
    engine.check(request.prompts, params);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kLimit) throw;
    ApiError limit_error(400, "context_length_exceeded", error.what());
    limit_error.param = param;
    throw limit_error;
  }
}

std::string Api::fingerprint(const Engine& engine) const {
  return fmt::format("shoal-{}-{}-{}", kVersion, layout_text(engine.mesh().sizes(), engine.spec().has_moe()),
                     model_hash_);
}

// --- routes

void Api::add_routes(RouteTable& routes) {
  const auto generate = [this](Reader reader) {
    return [this, reader](const std::shared_ptr<Exchange>& exchange) { admit(exchange, reader); };
  };
  routes.post("/v1/chat/completions", Access::kApi, generate(&read_chat));
  routes.post("/v1/completions", Access::kApi, generate(&read_completion));
  add_model_routes(routes);
  add_request_routes(routes);
}

Json Api::model_json() const {
  Json model = {{"id", settings_.model_names.front()},
                {"object", "model"},
                {"created", 0},
                {"owned_by", "shoal"},
                {"root", settings_.model_dir.string()},
                {"parent", nullptr},
                {"max_model_len", nullptr}};
  if (const auto text = this->model()) {
    model["sampling_defaults"] = text->sampling;
    model["chat"] = text->chat.has_value();
    model["tools"] = text->format.tools != ToolFormat::kNone;
  }
  if (const auto engine = host_.engine()) {
    model["max_model_len"] = engine->info().max_seq_len;
    model["layout"] = layout_text(engine->mesh().sizes(), engine->spec().has_moe());
    model["dtype"] = dtype_name(engine->info().dtype);
    model["kv_dtype"] = dtype_name(engine->info().kv_dtype);
    model["fingerprint"] = fingerprint(*engine);
  }
  return model;
}

void Api::add_model_routes(RouteTable& routes) {
  routes.get("/v1/models", Access::kApi, answer([this](const HttpRequest&) {
               Json list = Json::array();
               for (const std::string& name : settings_.model_names) {
                 Json model = model_json();
                 model["id"] = name;
                 list.push_back(std::move(model));
               }
               return json_reply({{"object", "list"}, {"data", std::move(list)}});
             }));
  routes.get("/v1/models/{model}", Access::kApi, answer([this](const HttpRequest& request) {
               check_model(request.item);
               Json model = model_json();
               model["id"] = request.item;
               return json_reply(model);
             }));
  const auto text_route = [&](const std::string& path, const std::function<Json(const Json&, const ModelText&)>& what) {
    const Handler handler = answer([this, what](const HttpRequest& request) {
      check_media_type(request);
      return json_reply(what(parse_body(request.body), *need_model()));
    });
    routes.post(path, Access::kApi, handler, RunOn::kWorker);
    routes.post("/v1" + path, Access::kApi, handler, RunOn::kWorker);
  };
  text_route("/tokenize", [this](const Json& body, const ModelText& model) {
    const auto engine = host_.engine();
    return tokenize(body, model, engine ? engine->info().max_seq_len : 0);
  });
  text_route("/detokenize", &detokenize);
  text_route("/apply-template", &apply_template);
}

void Api::add_request_routes(RouteTable& routes) {
  routes.get("/v1/requests", Access::kAdmin, answer([this](const HttpRequest&) {
               Json list = Json::array();
               for (const auto& session : sessions_.all()) list.push_back(session->status_json());
               return json_reply({{"requests", std::move(list)}});
             }));
  routes.add({"DELETE", "/v1/requests/{id}", Access::kApi, RunOn::kIo, answer([this](const HttpRequest& request) {
                const auto session = sessions_.find(request.item);
                if (!session)
                  throw ApiError(404, "request_not_found",
                                 fmt::format("no request {} is being answered", printable(request.item)));
                session->cancel(ApiError(409, "request_cancelled", "the request was cancelled by DELETE /v1/requests"));
                return json_reply({{"id", request.item}, {"cancelled", true}});
              })});
}

}  // namespace shoal
