// SPDX-License-Identifier: Apache-2.0
// What a server tells besides its answers: its model, layout and counters before and after a run, and its tokenizer. Everything but the
// model's name is optional: other servers have other routes.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/bench/dataset.h"
#include "apps/bench/http_client.h"

namespace shoal::bench {

// The first model of /v1/models. Throws std::runtime_error if the server cannot be asked.
std::string first_model(HttpClient& client);
// Waits until /v1/models answers; throws std::runtime_error after so many seconds.
void wait_ready(HttpClient& client, double seconds);

struct ServerState {
  std::map<std::string, double> metrics;  // of /metrics
  nlohmann::ordered_json ranks;           // of /v1/ranks; null
};
ServerState read_server(HttpClient& client);

// "server" of a report: layout, ranks' shares of time, cache and first-token times as the server saw them, over the run.
nlohmann::ordered_json server_json(const ServerState& before, const ServerState& after);

// Text and ids by /tokenize and /detokenize; without ids, and with a notice, where the server has no such routes.
TextTokens server_tokens(HttpClient& client, const std::string& model, std::string& notice);
// Texts for requests that have ids only. Throws std::runtime_error.
std::string detokenize(HttpClient& client, const std::string& model, const std::vector<int32_t>& ids);

}  // namespace shoal::bench
