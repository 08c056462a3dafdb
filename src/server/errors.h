// SPDX-License-Identifier: Apache-2.0
// Errors as clients get them: {"error": {"message", "type", "param", "code", "hint", "request_id"}}, the same for every route. Codes are
// stable (docs/serving.md lists them); texts are not.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>

#include "server/http/message.h"

namespace shoal {

class ApiError : public std::runtime_error {
 public:
  ApiError(int http_status, std::string stable_code, const std::string& message)
      : std::runtime_error(message), status(http_status), code(std::move(stable_code)) {}

  int status;
  std::string code;
  std::string param;                  // the field at fault; empty: null
  std::string hint;                   // what to do; empty: left out
  std::optional<double> retry_after;  // seconds
  nlohmann::ordered_json more;        // further keys of the error object
  Headers headers;                    // of the reply
};

// The error in flight in a catch block: ApiError as it is, Error by its kind, anything else as 500 `internal_error`.
ApiError current_api_error();

// "invalid_request_error" and so on.
std::string error_type(int status);
nlohmann::ordered_json error_object(const ApiError& error, const std::string& request_id);
HttpReply error_reply(const ApiError& error, const std::string& request_id);

// Text of JSON in which bytes that are not UTF-8 are U+FFFD.
std::string json_text(const nlohmann::ordered_json& value);
HttpReply json_reply(const nlohmann::ordered_json& value, int status = 200);

}  // namespace shoal
