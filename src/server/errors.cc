// SPDX-License-Identifier: Apache-2.0
#include "server/errors.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"

namespace shoal {

using Json = nlohmann::ordered_json;

ApiError current_api_error() {
  try {
    throw;
  } catch (const ApiError& error) {
    return error;
  } catch (const Error& error) {
    return {400, error.kind() == ErrorKind::kUnsupported ? "unsupported_parameter" : "invalid_request", error.what()};
  } catch (const std::bad_alloc&) {
    return {500, "internal_error", "the server is out of memory"};
  } catch (const std::exception& error) {
    return {500, "internal_error", fmt::format("the server failed: {}", error.what())};
  }
}

std::string error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 501:
      return "not_supported_error";
    case 503:
      return "unavailable_error";
    case 504:
      return "timeout_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

Json error_object(const ApiError& error, const std::string& request_id) {
  Json object = {{"message", error.what()},
                 {"type", error_type(error.status)},
                 {"param", error.param.empty() ? Json() : Json(error.param)},
                 {"code", error.code}};
  if (!error.hint.empty()) object["hint"] = error.hint;
  if (!request_id.empty()) object["request_id"] = request_id;
  if (error.more.is_object()) object.update(error.more);
  return {{"error", std::move(object)}};
}

HttpReply error_reply(const ApiError& error, const std::string& request_id) {
  HttpReply reply = json_reply(error_object(error, request_id), error.status);
  reply.headers = error.headers;
  if (error.retry_after) reply.headers.set("retry-after", fmt::format("{}", std::ceil(*error.retry_after)));
  // Clients repeat what may do better later, nothing else.
  const bool again = error.status == 408 || error.status == 429 || error.status == 500 || error.status >= 503;
  reply.headers.set("x-should-retry", again && error.status != 505 ? "true" : "false");
  if (error.status == 401) reply.headers.set("www-authenticate", "Bearer");
  return reply;
}

std::string json_text(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

HttpReply json_reply(const Json& value, int status) {
  HttpReply reply;
  reply.status = status;
  reply.body = json_text(value);
  return reply;
}

}  // namespace shoal
