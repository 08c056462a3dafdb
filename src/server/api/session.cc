// SPDX-License-Identifier: Apache-2.0
#include "server/api/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "base/error.h"
#include "server/api/prompt_scores.h"
#include "text/utf8.h"

namespace shoal {

struct Session::Choice {
  int64_t index = 0;
  size_t prompt = 0;
  std::unique_ptr<RequestMeter> meter;  // engine threads' until the end
  std::optional<AssistantParser> parser;
  Piece untold;  // what has come since the last chunk; of a whole answer, all of it
  int64_t told_characters = 0;
  int64_t tokens = 0, reasoning_tokens = 0, cached = 0;
  bool ended = false, told_end = false;
};

// What an engine thread hands over: a token, the end of a choice, or a prompt's scores.
struct Session::News {
  size_t index = 0;
  std::optional<OutputDelta> token;
  std::optional<GenerationResult> end;
  std::shared_ptr<PromptScores> scores;
};

// --- Sessions

void Sessions::add(const std::shared_ptr<Session>& session) {
  const std::lock_guard lock(mutex_);
  by_id_[session->answer_id()] = session;
}

void Sessions::remove(const std::string& answer_id) {
  const std::lock_guard lock(mutex_);
  by_id_.erase(answer_id);
}

std::shared_ptr<Session> Sessions::find(const std::string& id) const {
  for (const auto& session : all())
    if (session->request_id() == id || session->answer_id() == id) return session;
  return nullptr;
}

std::vector<std::shared_ptr<Session>> Sessions::all() const {
  std::vector<std::shared_ptr<Session>> list;
  const std::lock_guard lock(mutex_);
  for (const auto& [id, session] : by_id_)
    if (auto alive = session.lock()) list.push_back(std::move(alive));
  return list;
}

size_t Sessions::count() const {
  const std::lock_guard lock(mutex_);
  return by_id_.size();
}

// --- Session

Session::Session(SessionContext context, Generation request, std::shared_ptr<Exchange> exchange)
    : context_(std::move(context)),
      request_(std::move(request)),
      exchange_(std::move(exchange)),
      id_((request_.chat ? "chatcmpl-" : "cmpl-") + random_id()),
      created_(std::time(nullptr)) {
  for (size_t prompt = 0; prompt < request_.prompts.size(); ++prompt) {
    for (int64_t i = 0; i < request_.n; ++i) {
      auto choice = std::make_unique<Choice>();
      choice->index = std::ssize(choices_);
      choice->prompt = prompt;
      choice->untold.index = choice->index;
      if (request_.parse)
        choice->parser.emplace(context_.model->format, request_.prompt_tail, request_.tools,
                               fmt::format("{}-{}", id_, choice->index));
      choices_.push_back(std::move(choice));
    }
  }
  unscored_.assign(request_.prompts.size(), request_.echo && request_.logprobs);
}

Session::~Session() { context_.sessions.remove(id_); }

void Session::start(const std::shared_ptr<Engine>& engine, Clock::time_point arrived) {
  arrived_ = arrived;
  engine_ = engine;
  const int64_t tokens = request_.params.max_tokens;
  context_.metrics.accepted(std::ssize(choices_), tokens);
  context_.sessions.add(shared_from_this());
  exchange_->on_close([self = shared_from_this()] { self->finish(); });  // keeps it to the answer's last byte
  const auto keep_id = [&](uint64_t id) {
    const std::lock_guard lock(mutex_);
    engine_ids_.push_back(id);
  };
  for (size_t i = 0; i < unscored_.size(); ++i)
    if (unscored_[i]) keep_id(engine->submit(request_.prompts[i], {}, score_callbacks(i)));
  for (size_t i = 0; i < choices_.size(); ++i) {
    const std::vector<int32_t>& prompt = request_.prompts[choices_[i]->prompt];
    if (tokens == 0) {  // an echo only
      GenerationResult nothing;
      nothing.finish_reason = FinishReason::kLength;
      push({.index = i, .token = {}, .end = std::move(nothing), .scores = {}});
      continue;
    }
    choices_[i]->meter = std::make_unique<RequestMeter>(context_.metrics, std::ssize(prompt), tokens, arrived);
    SamplingParams params = request_.params;
    if (params.seed) *params.seed += static_cast<uint64_t>(choices_[i]->index % request_.n);
    keep_id(engine->submit(prompt, params, callbacks(i), request_.scheduling));
  }
  if (exchange_->closed()) cancel_choices();
}

// --- on engine threads

RequestCallbacks Session::callbacks(size_t index) {
  const auto self = shared_from_this();
  RequestMeter& meter = *choices_[index]->meter;
  RequestCallbacks callbacks;
  callbacks.on_start = [self, &meter] {
    meter.started();
    ++self->started_;
  };
  callbacks.on_output = [self, &meter, index](const OutputDelta& delta) {
    meter.token();
    ++self->generated_;
    self->push({.index = index, .token = delta, .end = {}, .scores = {}});
  };
  callbacks.on_finish = [self, &meter, index](GenerationResult result) {
    meter.finished(result.finish_reason, result.cached_tokens);
    self->push({.index = index, .token = {}, .end = std::move(result), .scores = {}});
  };
  return callbacks;
}

RequestCallbacks Session::score_callbacks(size_t prompt) {
  const auto self = shared_from_this();
  const auto scores = std::make_shared<PromptScores>(request_.prompts[prompt], request_.params.logprobs);
  RequestCallbacks callbacks;
  callbacks.on_logits = [scores](const LogitRows& rows) { scores->add(rows); };
  callbacks.on_finish = [self, scores, prompt](GenerationResult result) {
    self->push({.index = prompt, .token = {}, .end = std::move(result), .scores = scores});
  };
  return callbacks;
}

void Session::push(News news) {
  {
    const std::lock_guard lock(mutex_);
    news_.push_back(std::move(news));
    if (std::exchange(scheduled_, true)) return;
  }
  context_.post([self = shared_from_this()] { self->flush(); });
}

// --- on the I/O thread

void Session::flush() {
  std::vector<News> news;
  {
    const std::lock_guard lock(mutex_);
    news.swap(news_);
    scheduled_ = false;
  }
  for (News& one : news) take(one);
  if (answered_) return;
  if (request_.stream) {
    tell_stream();
  } else if (done()) {
    tell_whole();
  }
}

void Session::take(News& news) {
  if (news.scores) return take_scores(news.index, news.scores->take(), *news.end);
  Choice& choice = *choices_[news.index];
  if (news.token) take_token(choice, *news.token);
  if (news.end) take_end(choice, *news.end);
}

void Session::take_token(Choice& choice, const OutputDelta& delta) {
  ++choice.tokens;
  if (request_.token_ids) choice.untold.token_ids.push_back(delta.token.token);
  if (request_.logprobs) choice.untold.logprobs.push_back(delta.token);
  if (!choice.parser) {
    choice.untold.text += delta.text;
    return;
  }
  const auto add = [&](AssistantDelta part) {
    choice.untold.text += part.content;
    choice.untold.reasoning += part.reasoning;
    for (ToolCallDelta& call : part.tool_calls) choice.untold.tool_calls.push_back(std::move(call));
    return !part.reasoning.empty();
  };
  if (add(choice.parser->push(delta.text))) ++choice.reasoning_tokens;
  if (delta.finish_reason != FinishReason::kNone) add(choice.parser->finish());
}

void Session::take_end(Choice& choice, const GenerationResult& result) {
  choice.ended = true;
  choice.cached = result.cached_tokens;
  if (answered_) return;
  switch (result.finish_reason) {
    case FinishReason::kError: {
      ApiError error(503, "rank_lost", "the request could not be finished: " + result.error);
      error.retry_after = 2;
      error.hint = "send it again; the server builds a new engine by itself";
      return fail(error);
    }
    case FinishReason::kCancelled: {
      std::optional<ApiError> reason;
      {
        const std::lock_guard lock(mutex_);
        reason = cancelled_;
      }
      return fail(reason.value_or(ApiError(409, "request_cancelled", "the request was cancelled")));
    }
    default:
      choice.untold.finish_reason = finish_text(result.finish_reason, choice.parser && choice.parser->called_tools());
  }
}

void Session::take_scores(size_t prompt, std::vector<TokenLogprob> scores, const GenerationResult& result) {
  unscored_[prompt] = false;
  if (answered_) return;
  if (result.finish_reason == FinishReason::kError || result.finish_reason == FinishReason::kCancelled) {
    ApiError error(503, "rank_lost", "the prompt could not be scored: " + result.error);
    error.retry_after = 2;
    return fail(error);
  }
  for (const auto& choice : choices_) {
    if (choice->prompt != prompt) continue;
    choice->untold.logprobs.insert(choice->untold.logprobs.begin(), scores.begin(), scores.end());
  }
}

bool Session::done() const {
  return std::all_of(choices_.begin(), choices_.end(), [](const auto& choice) { return choice->ended; }) &&
         std::none_of(unscored_.begin(), unscored_.end(), [](bool waits) { return waits; });
}

// --- telling

AnswerStyle Session::style() const {
  return {.chat = request_.chat,
          .logprobs = request_.logprobs,
          .top_logprobs = request_.params.logprobs,
          .token_id_names = request_.token_id_names,
          .token_ids = request_.token_ids,
          .tokenizer = context_.model->tokenizer ? &*context_.model->tokenizer : nullptr};
}

Usage Session::usage() const {
  Usage usage;
  for (size_t i = 0; i < request_.prompts.size(); ++i) usage.prompt += std::ssize(request_.prompts[i]);
  for (const auto& choice : choices_) {
    usage.generated += choice->tokens;
    usage.reasoning += choice->reasoning_tokens;
    if (choice->index % request_.n == 0) usage.cached += choice->cached;
  }
  return usage;
}

// What is untold of the choice, taken out of it.
Piece Session::piece(Choice& choice) {
  Piece piece = std::exchange(choice.untold, {});
  choice.untold.index = choice.index;
  choice.untold.first = false;
  piece.text_offset = choice.told_characters;
  if (piece.first && request_.echo) piece.text = request_.prompt_texts[choice.prompt] + piece.text;
  if (request_.logprobs) choice.told_characters += static_cast<int64_t>(text::count_code_points(piece.text));
  return piece;
}

void Session::begin_stream() {
  if (std::exchange(in_stream_, true)) return;
  exchange_->stream(reply_headers(request_));
  head_ = json_text({{"id", id_},
                     {"object", request_.chat ? "chat.completion.chunk" : "text_completion"},
                     {"created", created_},
                     {"model", context_.model_name},
                     {"system_fingerprint", context_.fingerprint}});
  head_.back() = ',';  // of the object, to go on in
}

void Session::send(const Json& choices, const Json& usage) {
  std::string text = head_ + "\"choices\":" + json_text(choices);
  if (request_.include_usage || request_.continuous_usage) text += ",\"usage\":" + json_text(usage);
  text += '}';
  exchange_->stream({}).send(text);
}

void Session::tell_stream() {
  const AnswerStyle how = style();
  for (const auto& choice : choices_) {
    if (unscored_[choice->prompt] || choice->told_end) continue;
    const Piece& news = choice->untold;
    const bool echo = news.first && request_.echo;
    if (!echo && news.text.empty() && news.reasoning.empty() && news.tool_calls.empty() && news.logprobs.empty() &&
        news.token_ids.empty() && news.finish_reason.empty())
      continue;
    choice->told_end = !news.finish_reason.empty();
    begin_stream();
    send(Json::array({chunk_choice(piece(*choice), how)}), request_.continuous_usage ? usage_json(usage()) : Json());
  }
  if (done()) tell_end();
}

void Session::tell_end() {
  if (std::exchange(answered_, true)) return;
  if (request_.include_usage) send(Json::array(), usage_json(usage()));
  EventStream& stream = exchange_->stream({});
  stream.send("[DONE]");
  stream.close();
}

void Session::tell_whole() {
  answered_ = true;
  Json list = Json::array();
  const AnswerStyle how = style();
  for (const auto& choice : choices_) list.push_back(whole_choice(piece(*choice), how));
  HttpReply reply = json_reply({{"id", id_},
                                {"object", request_.chat ? "chat.completion" : "text_completion"},
                                {"created", created_},
                                {"model", context_.model_name},
                                {"system_fingerprint", context_.fingerprint},
                                {"choices", std::move(list)},
                                {"usage", usage_json(usage())}});
  reply.headers = reply_headers(request_);
  const double total = std::chrono::duration<double, std::milli>(Clock::now() - arrived_).count();
  reply.headers.set("server-timing", fmt::format("total;dur={:.1f}", total));
  exchange_->reply(std::move(reply));
}

void Session::fail(const ApiError& error) {
  if (std::exchange(answered_, true)) return;
  cancel_choices();
  if (!in_stream_) return exchange_->reply(error_reply(error, request_id()));
  EventStream& stream = exchange_->stream({});
  stream.send(json_text(error_object(error, request_id())));
  stream.send("[DONE]");
  stream.close();
}

void Session::check_time(Clock::time_point now, double ping_seconds) {
  if (request_.stream && !in_stream_ && !answered_ &&
      std::chrono::duration<double>(now - arrived_).count() > ping_seconds)
    begin_stream();
}

// --- the end

void Session::cancel(const ApiError& reason) {
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = reason;
  }
  cancel_choices();
}

void Session::cancel_choices() {
  const auto engine = engine_.lock();
  if (!engine) return;
  const std::lock_guard lock(mutex_);
  for (const uint64_t id : engine_ids_) engine->cancel(id);
}

// The exchange has ended: with the whole answer, or because the client left.
void Session::finish() {
  context_.sessions.remove(id_);
  if (!std::exchange(answered_, true)) cancel_choices();
}

Json Session::status_json() const {
  const double age = std::chrono::duration<double>(Clock::now() - arrived_).count();
  const char* state = generated_ > 0 ? "decode" : started_ > 0 ? "prefill" : "queued";
  int64_t prompt_tokens = 0;
  for (const auto& prompt : request_.prompts) prompt_tokens += std::ssize(prompt);
  const auto& rank = request_.scheduling.attention_dp_rank;
  return {{"id", request_id()},
          {"answer_id", id_},
          {"state", state},
          {"age_seconds", age},
          {"prompt_tokens", prompt_tokens},
          {"generated_tokens", generated_.load()},
          {"max_tokens", request_.params.max_tokens},
          {"choices", choices_.size()},
          {"stream", request_.stream},
          {"attention_dp_rank", rank ? Json(*rank) : Json()}};
}

// Names come from the client: whatever could end or split a header is replaced.
Headers reply_headers(const Generation& request) {
  constexpr size_t kMostBytes = 1024;
  if (request.ignored.empty()) return {};
  std::string list;
  for (const std::string& name : request.ignored) list += (list.empty() ? "" : ",") + name;
  if (list.size() > kMostBytes) list.resize(kMostBytes);
  for (char& c : list)
    if (c < ' ' || c > '~') c = '?';
  return {{"x-ignored-fields", list}};
}

}  // namespace shoal
