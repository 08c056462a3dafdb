// SPDX-License-Identifier: Apache-2.0
// Bodies of /v1/chat/completions and /v1/completions, and whole HTTP requests: what is wrong is an ApiError, nothing else.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "server/api/generation.h"
#include "server/errors.h"
#include "server/http/request_reader.h"

namespace {

const shoal::ModelText& model() {
  static const auto text = shoal::load_model_text("models/shoal-tiny", true);
  return *text;
}

void read_body(std::string_view body) {
  const shoal::ApiLimits limits{.max_n = 4, .max_stop = 4, .max_logprobs = 5, .max_prompts = 8};
  try {
    const shoal::Json value = shoal::parse_body(body);
    if (value.contains("messages")) {
      shoal::read_chat(value, model(), limits);
    } else {
      shoal::read_completion(value, model(), limits);
    }
  } catch (const shoal::ApiError& error) {
    shoal::error_reply(error, "req_fuzz");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (!bytes.empty() && bytes.front() == '{') {
    read_body(bytes);
    return 0;
  }
  shoal::RequestReader reader({.max_header_bytes = 2048, .max_body_bytes = 4096});
  for (size_t used = 1; used > 0 && !bytes.empty(); bytes.remove_prefix(used)) used = reader.put(bytes.substr(0, 7));
  if (reader.state() == shoal::RequestReader::State::kDone) read_body(reader.request().body);
  return 0;
}
