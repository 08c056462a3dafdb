// SPDX-License-Identifier: Apache-2.0
#include "server/http/request_reader.h"

#include <fmt/format.h>

#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/error.h"

namespace shoal {

namespace http = boost::beast::http;

struct RequestReader::Parser {
  http::request_parser<http::string_body> inner;
};

namespace {

std::string_view view(boost::beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

RequestReader::RequestReader(const ReaderLimits& limits) : limits_(limits) { reset(); }
RequestReader::~RequestReader() = default;

void RequestReader::reset() {
  parser_ = std::make_unique<Parser>();
  parser_->inner.header_limit(static_cast<uint32_t>(limits_.max_header_bytes));
  parser_->inner.body_limit(static_cast<uint64_t>(limits_.max_body_bytes));
  state_ = State::kEmpty;
  request_ = {};
}

size_t RequestReader::put(std::string_view bytes) {
  if (state_ == State::kDone || state_ == State::kFailed || bytes.empty()) return 0;
  if (state_ == State::kEmpty) state_ = State::kHeader;
  auto& parser = parser_->inner;
  parser.eager(state_ == State::kBody);
  size_t used = 0;
  boost::beast::error_code code;
  while (used < bytes.size() && !code && !parser.is_done() && (parser.eager() || !parser.is_header_done()))
    used += parser.put(boost::asio::buffer(bytes.data() + used, bytes.size() - used), code);
  if (code == http::error::body_limit) {
    fail(413, fmt::format("the body is larger than {} bytes", limits_.max_body_bytes));
  } else if (code == http::error::header_limit) {
    fail(431, fmt::format("the header is larger than {} bytes", limits_.max_header_bytes));
  } else if (code == http::error::bad_version) {
    fail(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
  } else if (code && code != http::error::need_more) {
    fail(400, fmt::format("this is no HTTP request: {}", code.message()));
  }
  if (state_ == State::kFailed) return used;
  if (parser.is_header_done() && state_ == State::kHeader) take_header();
  if (parser.is_done() && state_ == State::kBody) {
    request_.body = std::move(parser.get().body());
    state_ = State::kDone;
  }
  return used;
}

void RequestReader::take_header() {
  const auto& message = parser_->inner.get();
  request_.method = view(message.method_string());
  std::string_view target = view(message.target());
  // An absolute form, as proxies send it: http://host/path.
  if (target.starts_with("http://") || target.starts_with("https://")) {
    const size_t path = target.find('/', target.find("://") + 3);
    target = path == std::string_view::npos ? "/" : target.substr(path);
  }
  target = target.substr(0, target.find('#'));
  const size_t mark = std::min(target.find('?'), target.size());
  request_.path = percent_decoded(target.substr(0, mark), false);
  request_.query = target.substr(std::min(mark + 1, target.size()));
  for (const auto& field : message)
    request_.headers.add(std::string(view(field.name_string())), std::string(view(field.value())));
  state_ = State::kBody;
  if (message.version() != 10 && message.version() != 11)
    return fail(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
  if (!target.starts_with('/')) return fail(400, "the request's target must begin with /");
  // A message with both could be read differently by a proxy in front (request smuggling).
  if (request_.headers.has("transfer-encoding") && request_.headers.has("content-length"))
    return fail(400, "a request has content-length or transfer-encoding, not both");
}

void RequestReader::fail(int status, std::string text) {
  state_ = State::kFailed;
  failed_status_ = status;
  failed_text_ = std::move(text);
}

int64_t RequestReader::announced_bytes() const {
  const auto length = parser_->inner.content_length();
  if (length) return static_cast<int64_t>(*length);
  return parser_->inner.chunked() ? -1 : 0;
}

bool RequestReader::wants_continue() const { return same_header(request_.headers.get("expect"), "100-continue"); }
bool RequestReader::keep_alive() const { return parser_->inner.keep_alive(); }
bool RequestReader::is_http_1_0() const { return parser_->inner.get().version() == 10; }

}  // namespace shoal
