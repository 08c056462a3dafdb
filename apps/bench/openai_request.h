// SPDX-License-Identifier: Apache-2.0
// What is asked of an OpenAI-compatible server for one request of a dataset.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "apps/bench/dataset.h"

namespace shoal::bench {

struct OpenAiOptions {
  std::string model;
  bool chat = false;
  bool ignore_eos = false;
  nlohmann::ordered_json extra = nlohmann::ordered_json::object();  // sampling parameters and --extra-body; they win
};

// The body of a streamed completion or chat. Completions take token ids where the data has no text. Chats need text: a request without is
// an Error, as is a chat where completions are asked.
nlohmann::ordered_json openai_body(const OpenAiOptions& options, const BenchRequest& request);

}  // namespace shoal::bench
