// SPDX-License-Identifier: Apache-2.0
// Session: one request while it is answered: its choices run in the engine, and what they bring is told as a stream or, in the end, as one
// answer. Engine threads only queue here; parsing, JSON and sending are the I/O thread's. A client that leaves cancels all choices.
// Sessions: those that are being answered, by id.
// Invariants: the exchange is answered exactly once, whatever happens to the engine; a stream that has begun ends with [DONE].
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/api/answer.h"
#include "server/api/generation.h"
#include "server/engine_host.h"
#include "server/errors.h"
#include "server/http/exchange.h"
#include "server/metrics.h"

namespace shoal {

class Session;

class Sessions {
 public:
  void add(const std::shared_ptr<Session>& session);
  void remove(const std::string& answer_id);
  // By the request's or the answer's id; null if there is none.
  std::shared_ptr<Session> find(const std::string& id) const;
  std::vector<std::shared_ptr<Session>> all() const;
  size_t count() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::weak_ptr<Session>> by_id_;  // of answers: clients may repeat their own
};

// What sessions share.
struct SessionContext {
  std::shared_ptr<const ModelText> model;
  std::string model_name;
  std::string fingerprint;
  ServerMetrics& metrics;
  Sessions& sessions;
  std::function<void(std::function<void()>)> post;  // on the I/O thread
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  using Clock = std::chrono::steady_clock;

  Session(SessionContext context, Generation request, std::shared_ptr<Exchange> exchange);
  ~Session();

  // On a worker. Throws what the engine refuses; nothing runs then.
  void start(const std::shared_ptr<Engine>& engine, Clock::time_point arrived);
  // All choices end soon; the client is told this.
  void cancel(const ApiError& reason);
  // On the I/O thread, now and then: opens a stream whose first token takes long, so that it can be kept alive.
  void check_time(Clock::time_point now, double ping_seconds);

  const std::string& request_id() const { return exchange_->request().id; }
  const std::string& answer_id() const { return id_; }
  Json status_json() const;

 private:
  struct Choice;
  struct News;
  RequestCallbacks callbacks(size_t choice);
  RequestCallbacks score_callbacks(size_t prompt);
  void push(News news);
  // On the I/O thread from here on.
  void flush();
  void take(News& news);
  void take_token(Choice& choice, const OutputDelta& delta);
  void take_end(Choice& choice, const GenerationResult& result);
  void take_scores(size_t prompt, std::vector<TokenLogprob> scores, const GenerationResult& result);
  void tell_stream();
  void tell_whole();
  void tell_end();
  void fail(const ApiError& error);
  void begin_stream();
  void send(const Json& choices, const Json& usage);
  Piece piece(Choice& choice);
  Usage usage() const;
  AnswerStyle style() const;
  void cancel_choices();
  bool done() const;
  void finish();

  const SessionContext context_;
  const Generation request_;
  const std::shared_ptr<Exchange> exchange_;
  const std::string id_;
  const int64_t created_;
  Clock::time_point arrived_;
  std::weak_ptr<Engine> engine_;
  std::vector<std::unique_ptr<Choice>> choices_;
  std::vector<bool> unscored_;  // by prompt: its log-probabilities are being computed
  std::atomic<int64_t> started_{0}, generated_{0};
  bool in_stream_ = false, answered_ = false;  // the I/O thread's
  std::string head_;                           // of a chunk's JSON
  mutable std::mutex mutex_;                   // for what follows
  std::vector<News> news_;
  bool scheduled_ = false;
  std::optional<ApiError> cancelled_;  // why; absent: not
  std::vector<uint64_t> engine_ids_;
};

// x-ignored-fields, where there are any.
Headers reply_headers(const Generation& request);

}  // namespace shoal
