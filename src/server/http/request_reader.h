// SPDX-License-Identifier: Apache-2.0
// RequestReader: bytes of a connection -> one HTTP/1.1 request, within limits. Not here: sockets, time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "server/http/message.h"

namespace shoal {

struct ReaderLimits {
  int64_t max_header_bytes = int64_t{16} << 10;
  int64_t max_body_bytes = int64_t{16} << 20;
};

class RequestReader {
 public:
  enum class State : uint8_t { kEmpty, kHeader, kBody, kDone, kFailed };

  explicit RequestReader(const ReaderLimits& limits);
  ~RequestReader();

  // Takes what it can; returns how many bytes that were. Stops after the header (state kBody) once, and after the request.
  size_t put(std::string_view bytes);
  State state() const { return state_; }
  // From kBody on: all but the body; from kDone on: all.
  HttpRequest& request() { return request_; }
  // Bytes of the body that were announced; -1 if not (chunked).
  int64_t announced_bytes() const;
  bool wants_continue() const;  // Expect: 100-continue
  bool keep_alive() const;
  bool is_http_1_0() const;
  // kFailed: the status to answer and a sentence.
  int failed_status() const { return failed_status_; }
  const std::string& failed_text() const { return failed_text_; }

  // Ready for the connection's next request.
  void reset();

 private:
  struct Parser;
  void take_header();
  void fail(int status, std::string text);

  ReaderLimits limits_;
  std::unique_ptr<Parser> parser_;
  State state_ = State::kEmpty;
  HttpRequest request_;
  int failed_status_ = 0;
  std::string failed_text_;
};

}  // namespace shoal
