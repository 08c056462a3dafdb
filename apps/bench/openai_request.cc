// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/openai_request.h"

#include "base/error.h"

namespace shoal::bench {
namespace {

using Json = nlohmann::ordered_json;

Json messages_of(const BenchRequest& request) {
  if (!request.messages.is_null()) return request.messages;
  if (!request.text.empty()) return Json::array({{{"role", "user"}, {"content", request.text}}});
  throw Error(ErrorKind::kInvalid, "a chat needs text, and the request has token ids only; use --backend openai");
}

Json prompt_of(const BenchRequest& request) {
  if (!request.text.empty()) return request.text;
  if (!request.ids.empty()) return request.ids;
  throw Error(ErrorKind::kInvalid, "the request is a chat; use --backend openai-chat");
}

}  // namespace

Json openai_body(const OpenAiOptions& options, const BenchRequest& request) {
  Json body = {{"model", options.model}};
  if (options.chat) {
    body["messages"] = messages_of(request);
    body["max_completion_tokens"] = request.output_tokens;
  } else {
    body["prompt"] = prompt_of(request);
    body["max_tokens"] = request.output_tokens;
  }
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  if (options.ignore_eos) body["ignore_eos"] = true;
  for (const auto& [key, value] : options.extra.items()) body[key] = value;
  return body;
}

}  // namespace shoal::bench
