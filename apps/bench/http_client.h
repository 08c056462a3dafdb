// SPDX-License-Identifier: Apache-2.0
// An HTTP/1.1 client, with or without TLS, of one thread: any number of calls at once, over connections that are kept and used again; bodies are handed on as
// they come. Not here: what the bodies mean (openai_stream.h). Boost is seen by http_client.cc alone.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shoal::bench {

struct ServerAddress {
  std::string host;
  std::string port;
  std::string path;  // in front of every target: "" or "/prefix"
  bool tls = false;
  bool verify = true;  // TLS: the certificate must be the host's, signed by somebody whom this machine trusts
};
// "http://host:port/prefix", or https. Error for anything else.
ServerAddress parse_base_url(const std::string& url);

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpCall {
  std::string method = "GET";
  std::string target;
  std::string body{};
  HttpHeaders headers{};
};

struct HttpSink {
  std::function<void(int status)> on_status;
  std::function<void(std::string_view bytes)> on_body;
  std::function<void(const std::string& error)> on_end;  // once; empty: the answer is complete
};

struct HttpAnswer {
  int status = 0;
  std::string body;
  std::string error;  // empty: complete
  bool ok() const { return error.empty() && status == 200; }
};

class HttpClient {
 public:
  // `timeout_s`: without a byte, after which a call fails.
  HttpClient(ServerAddress address, HttpHeaders headers, double timeout_s);
  ~HttpClient();

  // From run()'s thread, or before it. Sinks are called in run().
  void start(HttpCall call, HttpSink sink);
  // Calls `task` in run(), so many seconds from now.
  void after(double seconds, std::function<void()> task);
  // Until no call and no task is left.
  void run();

  // One call by itself, waited for; not from within run().
  HttpAnswer get(const std::string& target);
  HttpAnswer post(const std::string& target, const std::string& body);

 private:
  struct Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace shoal::bench
