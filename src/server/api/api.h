// SPDX-License-Identifier: Apache-2.0
// Api: the routes that OpenAI's clients and vLLM's and llama.cpp's users know: chats, completions, models, tokens, templates, requests,
// caches, expert records. What computes runs on the HTTP server's workers; a full queue is refused before anything is read.
// Not here: status and metrics of the server (status.h, metrics.h), health (health.h).
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "server/api/session.h"
#include "server/http/http_server.h"

namespace shoal {

struct ApiSettings {
  std::filesystem::path model_dir;
  std::vector<std::string> model_names;  // by which requests may ask for the model; the first is told
  ApiLimits limits;
  int64_t max_queue = 1024;  // sequences that wait
  double ping_seconds = 15;
};

class Api {
 public:
  Api(EngineHost& host, ServerMetrics& metrics, ApiSettings settings);

  void add_routes(RouteTable& routes);
  // Before the server runs; it must outlive this.
  void connect(HttpServer& http);
  // Before the first engine is ready.
  void set_model(std::shared_ptr<const ModelText> model);
  std::shared_ptr<const ModelText> model() const;

  Sessions& sessions() { return sessions_; }
  // Requests that are not answered yet.
  int64_t unanswered() const { return admitted_ + static_cast<int64_t>(sessions_.count()); }

 private:
  using Reader = Generation (*)(const Json&, const ModelText&, const ApiLimits&);
  void add_model_routes(RouteTable& routes);
  void add_request_routes(RouteTable& routes);
  void admit(const std::shared_ptr<Exchange>& exchange, Reader reader);
  void run(const std::shared_ptr<Exchange>& exchange, Reader reader, Session::Clock::time_point arrived);
  void check_queue() const;
  void check_model(const std::string& name) const;
  void settle_tokens(const Engine& engine, Generation& request) const;
  std::shared_ptr<const ModelText> need_model() const;
  std::string fingerprint(const Engine& engine) const;
  Json model_json() const;

  EngineHost& host_;
  ServerMetrics& metrics_;
  const ApiSettings settings_;
  const std::string model_hash_;
  HttpServer* http_ = nullptr;
  Sessions sessions_;
  std::atomic<int64_t> admitted_{0};  // not started yet
  mutable std::mutex mutex_;
  std::shared_ptr<const ModelText> model_;
};

// Of text: /tokenize, /detokenize, /apply-template.
Json tokenize(const Json& body, const ModelText& model, int64_t max_seq_len);
Json detokenize(const Json& body, const ModelText& model);
Json apply_template(const Json& body, const ModelText& model);

}  // namespace shoal
