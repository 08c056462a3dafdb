// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/server_info.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <set>
#include <thread>

#include "apps/bench/openai_stream.h"
#include "apps/bench/serve_run.h"
#include "base/error.h"
#include "base/json_file.h"

namespace shoal::bench {
namespace {

using Json = nlohmann::ordered_json;

std::runtime_error failed(const char* target, const HttpAnswer& answer) {
  const std::string why =
      answer.error.empty() ? fmt::format("HTTP {}: {}", answer.status, error_text(answer.body)) : answer.error;
  return std::runtime_error(fmt::format("{} cannot be asked: {}; is the server running there?", target, why));
}

Json parsed(const std::string& text) { return Json::parse(text, nullptr, false); }

double number(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}

// Parts of speech that any tokenizer makes ordinary tokens of.
constexpr const char* kWords =
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work number night point home water room mother area money "
    "story fact month lot right study book eye job word business issue side kind head house service friend father "
    "power "
    "hour game line end member law car city community name president team minute idea body information back parent "
    "face "
    "others level office door health person art war history party result change morning reason research girl guy "
    "moment "
    "air teacher force education river stone light green quickly never always under between because however through";

std::vector<int32_t> encode(HttpClient& client, const std::string& model, const std::string& text) {
  const HttpAnswer answer = client.post(
      "/tokenize", Json{{"model", model}, {"prompt", text}}.dump(-1, ' ', false, Json::error_handler_t::replace));
  const Json body = parsed(answer.body);
  if (!answer.ok() || !body.is_object() || !body.contains("tokens") || !body["tokens"].is_array())
    throw failed("/tokenize", answer);
  std::vector<int32_t> ids;
  for (const Json& id : body["tokens"])
    if (id.is_number_integer()) ids.push_back(id.get<int32_t>());
  return ids;
}

Json rank_shares(const Json& before, const Json& after) {
  Json shares = Json::array();
  const auto ranks_of = [](const Json& state) {
    return state.is_object() && state.contains("ranks") && state["ranks"].is_array() ? state["ranks"] : Json::array();
  };
  const Json first = ranks_of(before), last = ranks_of(after);
  for (size_t i = 0; i < last.size() && first.size() == last.size(); ++i) {
    const auto spent = [&](const char* key) { return number(last[i], key) - number(first[i], key); };
    const double compute = spent("compute_seconds"), communication = spent("communication_seconds");
    const double stage = spent("stage_seconds"), idle = spent("idle_seconds");
    const double all = std::max(1e-12, compute + communication + stage + idle);
    shares.push_back({{"rank", i},
                      {"compute_share", compute / all},
                      {"communication_share", communication / all},
                      {"stage_share", stage / all},
                      {"idle_share", idle / all},
                      {"tokens", spent("tokens")},
                      {"bytes_sent", spent("bytes_sent")}});
  }
  return shares;
}

}  // namespace

std::string first_model(HttpClient& client) {
  const HttpAnswer answer = client.get("/v1/models");
  const Json body = parsed(answer.body);
  if (!answer.ok() || !body.is_object() || !body.contains("data") || !body["data"].is_array() || body["data"].empty() ||
      !body["data"][0].is_object() || !body["data"][0].contains("id") || !body["data"][0]["id"].is_string())
    throw failed("/v1/models", answer);
  return body["data"][0]["id"].get<std::string>();
}

void wait_ready(HttpClient& client, double seconds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (true) {
    const HttpAnswer answer = client.get("/v1/models");
    if (answer.ok()) return;
    if (std::chrono::steady_clock::now() > until) throw failed("/v1/models", answer);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

ServerState read_server(HttpClient& client) {
  ServerState state;
  if (const HttpAnswer answer = client.get("/metrics"); answer.ok()) state.metrics = parse_metrics(answer.body);
  if (const HttpAnswer answer = client.get("/v1/ranks"); answer.ok()) {
    Json ranks = parsed(answer.body);
    if (ranks.is_object()) state.ranks = std::move(ranks);
  }
  return state;
}

Json server_json(const ServerState& before, const ServerState& after) {
  Json server = Json::object();
  for (const char* key : {"model", "version", "layout", "world_size", "sizes", "dtype", "kv_dtype", "backend",
                          "threads_per_rank", "max_seq_len"}) {
    if (after.ranks.is_object() && after.ranks.contains(key)) server[key] = after.ranks[key];
  }
  if (after.ranks.is_object()) server["ranks"] = rank_shares(before.ranks, after.ranks);
  const auto counted = [&](const std::string& name) {
    const auto last = after.metrics.find(name), first = before.metrics.find(name);
    return last == after.metrics.end() ? 0.0 : last->second - (first == before.metrics.end() ? 0.0 : first->second);
  };
  const double queries = counted("vllm:prefix_cache_queries_total"), hits = counted("vllm:prefix_cache_hits_total");
  if (queries > 0) server["prefix_cache_hit_share"] = hits / queries;
  if (after.metrics.contains("vllm:num_preemptions_total"))
    server["preemptions"] = counted("vllm:num_preemptions_total");
  const double answers = counted("vllm:time_to_first_token_seconds_count");
  if (answers > 0) server["mean_ttft_ms"] = 1e3 * counted("vllm:time_to_first_token_seconds_sum") / answers;
  return server;
}

TextTokens server_tokens(HttpClient& client, const std::string& model, std::string& notice) {
  TextTokens tokens;
  try {
    std::set<int32_t> distinct;
    for (const int32_t id : encode(client, model, kWords)) distinct.insert(id);
    tokens.ordinary.assign(distinct.begin(), distinct.end());
    // Not the first: it may be BOS.
    const std::vector<int32_t> all = encode(client, model, kWords);
    if (!all.empty() && tokens.ordinary.size() > 1) std::erase(tokens.ordinary, all.front());
    tokens.encode = [&client, model](const std::string& text) { return encode(client, model, text); };
  } catch (const std::runtime_error& error) {
    notice = fmt::format("{} (prompts are counted by the server's usage only)", error.what());
  }
  return tokens;
}

std::string detokenize(HttpClient& client, const std::string& model, const std::vector<int32_t>& ids) {
  const HttpAnswer answer = client.post("/detokenize", Json{{"model", model}, {"tokens", ids}}.dump());
  const Json body = parsed(answer.body);
  if (!answer.ok() || !body.is_object() || !body.contains("prompt") || !body["prompt"].is_string())
    throw failed("/detokenize", answer);
  return body["prompt"].get<std::string>();
}

}  // namespace shoal::bench
