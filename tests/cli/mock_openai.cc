// SPDX-License-Identifier: Apache-2.0
#include "tests/cli/mock_openai.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <utility>

namespace shoal::cli {
namespace {

using nlohmann::json;

void pause_ms(int ms) {
  if (ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

bool send_all(int socket, const std::string& text) {
  for (size_t sent = 0; sent < text.size();) {
    const ssize_t count = ::send(socket, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) return false;
    sent += static_cast<size_t>(count);
  }
  return true;
}

bool send_chunk(int socket, const std::string& text) {
  char size[32];
  std::snprintf(size, sizeof size, "%zx\r\n", text.size());
  return send_all(socket, size + text + "\r\n");
}

bool send_event(int socket, const json& data) { return send_chunk(socket, "data: " + data.dump() + "\n\n"); }

bool send_json(int socket, int status, const json& body) {
  const std::string text = body.dump();
  return send_all(socket, "HTTP/1.1 " + std::to_string(status) +
                              " Said\r\nContent-Type: application/json\r\nContent-Length: " +
                              std::to_string(text.size()) + "\r\n\r\n" + text);
}

// The value of a header, in lower case as clients may write it.
std::string header(const std::string& head, const std::string& name) {
  std::string lower = head;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  const size_t at = lower.find("\r\n" + name + ":");
  if (at == std::string::npos) return {};
  const size_t start = head.find_first_not_of(' ', at + name.size() + 3);
  return head.substr(start, head.find("\r\n", start) - start);
}

json choice(bool chat, const std::string& text, const char* reason) {
  json object = {{"index", 0}, {"finish_reason", reason == nullptr ? json() : json(reason)}};
  if (chat) object["delta"] = text.empty() ? json::object() : json{{"content", text}};
  if (!chat) object["text"] = text;
  return {{"id", "mock"}, {"choices", json::array({object})}};
}

}  // namespace

MockOpenAi::MockOpenAi(Options options) : options_(std::move(options)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener_, 512) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("no port for the mock server");
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

MockOpenAi::~MockOpenAi() {
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  {
    const std::lock_guard lock(mutex_);
    for (const int socket : sockets_) ::shutdown(socket, SHUT_RDWR);
  }
  for (std::thread& thread : threads_) thread.join();
  for (const int socket : sockets_) ::close(socket);
  ::close(listener_);
}

std::vector<json> MockOpenAi::asked() const {
  const std::lock_guard lock(mutex_);
  return asked_;
}

void MockOpenAi::accept_all() {
  for (int socket = 0; (socket = ::accept(listener_, nullptr, nullptr)) >= 0;) {
    const std::lock_guard lock(mutex_);
    sockets_.push_back(socket);
    threads_.emplace_back([this, socket] { serve(socket); });
  }
}

void MockOpenAi::serve(int socket) {
  std::string bytes;
  char piece[16384];
  while (true) {
    size_t end = bytes.find("\r\n\r\n");
    const std::string length = end == std::string::npos ? "" : header(bytes.substr(0, end + 2), "content-length");
    const size_t body = length.empty() ? 0 : std::stoul(length);
    if (end == std::string::npos || bytes.size() < end + 4 + body) {
      const ssize_t count = ::recv(socket, piece, sizeof piece, 0);
      if (count <= 0) return;
      bytes.append(piece, static_cast<size_t>(count));
      continue;
    }
    if (!answer(socket, bytes.substr(0, end + 2), bytes.substr(end + 4, body))) {
      ::shutdown(socket, SHUT_RDWR);
      return;
    }
    bytes.erase(0, end + 4 + body);
  }
}

bool MockOpenAi::answer(int socket, const std::string& head, const std::string& body) {
  if (!options_.key.empty() && header(head, "authorization") != "Bearer " + options_.key)
    return send_json(socket, 401, {{"error", {{"message", "a key is needed"}}}});
  const auto is = [&](const char* route) { return head.starts_with(route); };
  if (is("GET /v1/models ")) return send_json(socket, 200, {{"data", json::array({{{"id", "mock-model"}}})}});
  if (is("POST /tokenize ")) {  // a token a word
    json tokens = json::array({1});
    int32_t id = 100;
    for (const char c : json::parse(body)["prompt"].get<std::string>())
      if (c == ' ') tokens.push_back(id++);
    return send_json(socket, 200, {{"tokens", tokens}});
  }
  if (is("POST /detokenize ")) return send_json(socket, 200, {{"prompt", "some words of text"}});
  const bool chat = is("POST /v1/chat/completions ");
  if (!chat && !is("POST /v1/completions ")) return send_json(socket, 404, {{"error", {{"message", "no such route"}}}});
  const json asked = json::parse(body);
  size_t index = 0;
  {
    const std::lock_guard lock(mutex_);
    index = asked_.size();
    asked_.push_back(asked);
  }
  const int now = ++now_;
  for (int most = most_; now > most && !most_.compare_exchange_weak(most, now);) continue;
  const bool goes_on = stream(socket, asked, chat, options_.manner(index));
  --now_;
  return goes_on;
}

bool MockOpenAi::stream(int socket, const json& asked, bool chat, Manner manner) {
  if (manner == Manner::kRefuses) return send_json(socket, 429, {{"error", {{"message", "queue is full"}}}});
  if (manner == Manner::kPlainError) return send_json(socket, 200, {{"error", {{"message", "not now"}}}});
  const int tokens = asked.value(chat ? "max_completion_tokens" : "max_tokens", 16);
  send_all(socket, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
  if (chat)
    send_event(socket,
               {{"choices", json::array({{{"index", 0}, {"delta", {{"role", "assistant"}, {"content", ""}}}}})}});
  pause_ms(options_.first_token_ms);
  for (int i = 0; i < tokens; ++i) {
    if (i > 0) pause_ms(options_.token_ms);
    if (i == tokens / 2) send_chunk(socket, ": ping\n\n");
    if (i == tokens / 2 && manner == Manner::kBreaksOff) return send_all(socket, "40\r\ndata: {\"choi") && false;
    if (i == tokens / 2 && manner == Manner::kNotJson) send_chunk(socket, "data: {nonsense\n\n");
    if (i == tokens - 1 && manner == Manner::kErrorObject) {
      send_event(socket, {{"error", {{"message", "rank 1 was lost"}, {"code", "rank_lost"}}}});
      return send_chunk(socket, "data: [DONE]\n\n") && send_all(socket, "0\r\n\r\n");
    }
    send_event(socket, choice(chat, "tok ", nullptr));
  }
  if (manner != Manner::kNoFinish) send_event(socket, choice(chat, "", "length"));
  if (manner != Manner::kNoUsage)
    send_event(socket, {{"choices", json::array()},
                        {"usage",
                         {{"prompt_tokens", 10},
                          {"completion_tokens", tokens},
                          {"prompt_tokens_details", {{"cached_tokens", options_.cached_tokens}}}}}});
  if (manner != Manner::kNoDone) send_chunk(socket, "data: [DONE]\n\n");
  return send_all(socket, "0\r\n\r\n");
}

}  // namespace shoal::cli
