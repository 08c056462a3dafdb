// SPDX-License-Identifier: Apache-2.0
// The answer of an OpenAI-compatible server to one streamed request, read as it comes: server-sent events, then chunks of a completion or a
// chat. A request succeeds only if its stream came to its proper end: a finish_reason, then [DONE], and no error object on the way.
// Not here: HTTP (http_client.h), what is asked (openai_request.h).
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "apps/bench/record.h"

namespace shoal::bench {

// Splits a body into the data of its events, however it is cut into pieces. Lines may end in \n, \r\n or \r; comments are passed over.
class EventReader {
 public:
  explicit EventReader(std::function<void(std::string_view data)> on_data) : on_data_(std::move(on_data)) {}
  void feed(std::string_view bytes);
  // Bytes of an event that has not ended.
  bool in_event() const { return !line_.empty() || has_data_; }

 private:
  void end_line();

  std::function<void(std::string_view)> on_data_;
  std::string line_, data_;
  bool has_data_ = false;
  bool after_return_ = false;
};

class OpenAiStream {
 public:
  explicit OpenAiStream(RequestRecord& record);

  void on_status(int status) { status_ = status; }
  // `now`: seconds of the run.
  void on_body(std::string_view bytes, double now);
  // The answer is complete, or `error` says why it never will be. Fills in the record's verdict.
  void on_end(const std::string& error, double now);
  bool has_usage() const { return has_usage_; }

 private:
  void on_data(std::string_view data);
  void on_chunk(std::string_view data);
  void fail(const std::string& error);
  std::string verdict(const std::string& error) const;

  RequestRecord& record_;
  EventReader events_;
  int status_ = 0;
  double now_ = 0;
  double finished_at_ = 0;
  bool finished_ = false;
  bool done_ = false;
  bool has_usage_ = false;
  std::string error_;
  std::string plain_;  // the beginning of a body that is no stream
};

// What an error body says: its message, else its beginning.
std::string error_text(std::string_view body);

}  // namespace shoal::bench
