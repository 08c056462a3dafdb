// SPDX-License-Identifier: Apache-2.0
// A small OpenAI-compatible server on loopback for tests of clients: it streams made-up tokens, and misbehaves as it is told.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace shoal::cli {

enum class Manner {
  kProper,
  kNoDone,       // no [DONE]
  kNoFinish,     // [DONE] without a finish_reason
  kBreaksOff,    // closes in the middle of a chunk
  kErrorObject,  // {"error": ...} instead of the last token
  kRefuses,      // 429 with an error body
  kNoUsage,
  kNotJson,
  kPlainError,  // 200 with a JSON error body
};

class MockOpenAi {
 public:
  struct Options {
    std::function<Manner(size_t index)> manner = [](size_t) { return Manner::kProper; };
    int first_token_ms = 0;
    int token_ms = 0;
    int64_t cached_tokens = 0;
    std::string key{};  // required, if any
  };
  explicit MockOpenAi(Options options);
  ~MockOpenAi();

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  int port() const { return port_; }
  // Bodies of the completions and chats asked for so far.
  std::vector<nlohmann::json> asked() const;
  int most_at_once() const { return most_; }

 private:
  void accept_all();
  void serve(int socket);
  bool answer(int socket, const std::string& head, const std::string& body);
  bool stream(int socket, const nlohmann::json& asked, bool chat, Manner manner);

  Options options_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<int> now_{0}, most_{0};
  mutable std::mutex mutex_;  // for what follows
  std::vector<nlohmann::json> asked_;
  std::vector<int> sockets_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace shoal::cli
