// SPDX-License-Identifier: Apache-2.0
// HTTP requests and replies as values. Header names are compared without regard to case. Not here: sockets (http_server.h), what a path means
// (routes.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shoal {

class Headers {
 public:
  Headers() = default;
  Headers(std::initializer_list<std::pair<std::string, std::string>> list) : list_(list) {}

  // The first of that name; empty if there is none.
  std::string_view get(std::string_view name) const;
  bool has(std::string_view name) const;
  void add(std::string name, std::string value) { list_.emplace_back(std::move(name), std::move(value)); }
  void set(const std::string& name, std::string value);

  auto begin() const { return list_.begin(); }
  auto end() const { return list_.end(); }

 private:
  std::vector<std::pair<std::string, std::string>> list_;
};

bool same_header(std::string_view a, std::string_view b);

struct HttpRequest {
  std::string method{};
  std::string path{};   // percent-decoded, without the query
  std::string query{};  // after '?', as it came
  Headers headers{};
  std::string body{};
  std::string id{};      // the client's x-request-id if it is fit to be logged, else made up
  std::string remote{};  // address of the peer
  std::string item{};    // what a route's {…} matched

  // A parameter of the query, percent-decoded; empty if absent.
  std::string parameter(std::string_view name) const;
};

struct HttpReply {
  int status = 200;
  Headers headers{};
  std::string content_type = "application/json";
  std::string body{};
};

// "%41+b" -> "A b" ('+' only in queries). Broken escapes stay as they are.
std::string percent_decoded(std::string_view text, bool plus_is_space);
std::string_view status_text(int status);
// `wanted` if it is 1 to 64 letters, digits and "-_.", else a new one, "req_" and 24 hexadecimal digits.
std::string request_id(std::string_view wanted);
// 24 random hexadecimal digits.
std::string random_id();

}  // namespace shoal
