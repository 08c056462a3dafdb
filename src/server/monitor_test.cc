// SPDX-License-Identifier: Apache-2.0
// What a running server of four ranks tells, over HTTP, against what its engine was given to do.
#include "server/monitor.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>
#include <thread>

#include "server/http/http_server.h"
#include "server/test_metric_names.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

EngineConfig four_rank_config() {
  EngineConfig config;
  config.tensor_parallel_size = 4;
  config.moe_expert_parallel_size = 4;
  config.enable_attention_dp = true;
  config.threads_per_rank = 1;
  config.max_batch_size = 8;
  config.max_num_tokens = 64;
  config.max_seq_len = 128;
  config.kv_cache.max_tokens = 1024;
  config.kv_cache.enable_block_reuse = false;
  config.comm_timeout_s = 60;
  return config;
}

// A socket that has asked for `path`.
int ask(uint16_t port, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  const std::string text = "GET " + path + " HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
  EXPECT_EQ(send(fd, text.data(), text.size(), 0), std::ssize(text));
  return fd;
}

// Until `wanted` is in it, or the end.
std::string receive(int fd, const std::string& wanted = "\n\n\n\n") {
  std::string text;
  std::array<char, 4096> piece{};
  while (text.find(wanted) == std::string::npos) {
    const ssize_t got = recv(fd, piece.data(), piece.size(), 0);
    if (got <= 0) break;
    text.append(piece.data(), static_cast<size_t>(got));
  }
  return text;
}

class FourRanks {
 public:
  FourRanks()
      : host_([this](const EngineHooks& hooks) { return build(hooks); }, HostSettings{},
              [](const std::exception_ptr&) {}),
        monitor_(host_, metrics_, {.model = "tiny", .version = "1.2.3"}) {
    RouteTable routes;
    monitor_.add_routes(routes);
    HttpSettings settings;
    settings.port = 0;
    HttpHooks hooks;
    hooks.served = [this](const Served& served) {
      metrics_.http_request(served.request.method, served.route, served.status, served.seconds);
    };
    http_ = std::make_unique<HttpServer>(settings, std::move(routes), hooks);
    io_ = std::thread([this] { http_->run(); });
    monitor_.start();
    host_.start();
  }
  ~FourRanks() {
    http_->stop();
    io_.join();
  }

  void wait_until_ready() {
    while (!host_.engine()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  int64_t run(int requests, int64_t prompt, int64_t generated) {
    std::vector<std::vector<int32_t>> prompts(requests, std::vector<int32_t>(prompt));
    for (int i = 0; i < requests; ++i) std::iota(prompts[i].begin(), prompts[i].end(), 10 + 7 * i);
    host_.engine()->generate(prompts, {.max_tokens = generated, .ignore_eos = true});
    return requests * (prompt + generated - 1);  // the last token is no input
  }
  std::string get(const std::string& path) const {
    const int fd = ask(http_->port(), path);
    const std::string text = receive(fd);
    close(fd);
    return text;
  }
  Json json(const std::string& path) const {
    const std::string text = get(path);
    EXPECT_THAT(text, HasSubstr("HTTP/1.1 200"));
    return Json::parse(text.substr(text.find("\r\n\r\n") + 4));
  }
  // A rank ends its step after the step's tokens have been told.
  Json settled_ranks(int64_t tokens) const {
    for (int i = 0; i < 100; ++i) {
      Json ranks = json("/v1/ranks");
      int64_t all = 0;
      for (const Json& rank : ranks.at("ranks")) all += rank.at("tokens").get<int64_t>();
      if (all >= tokens) return ranks;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return json("/v1/ranks");
  }
  void wait_for_watchers(size_t count) {
    for (int i = 0; i < 200 && monitor_.history().watchers() != count; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(monitor_.history().watchers(), count);
  }
  uint16_t port() const { return http_->port(); }
  EngineHost& host() { return host_; }

 private:
  static std::unique_ptr<Engine> build(const EngineHooks& hooks) {
    return std::make_unique<Engine>("models/shoal-tiny", four_rank_config(), hooks);
  }

  ServerMetrics metrics_;
  EngineHost host_;
  Monitor monitor_;
  std::unique_ptr<HttpServer> http_;
  std::thread io_;
};

// The value of a series, its name with labels.
double value_of(const std::string& text, const std::string& series) {
  const size_t at = text.find("\n" + series + " ");
  EXPECT_NE(at, std::string::npos) << series;
  return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
}

TEST(Monitor, SumsOverRanksAreWhatWasAskedFor) {
  FourRanks server;
  server.wait_until_ready();
  const int64_t tokens = server.run(6, 20, 5);
  const Json ranks = server.settled_ranks(tokens);
  EXPECT_EQ(ranks.at("layout"), "tp4·ep4·adp4");
  EXPECT_EQ(ranks.at("state"), "ready");
  EXPECT_EQ(ranks.at("requests").at("running"), 0);
  int64_t all = 0;
  for (size_t rank = 0; rank < 4; ++rank) {
    const Json& one = ranks.at("ranks").at(rank);
    all += one.at("tokens").get<int64_t>();
    EXPECT_EQ(one.at("state"), "ok");
    EXPECT_GT(one.at("steps").get<int64_t>(), 0);
    EXPECT_GT(one.at("compute_seconds").get<double>(), 0);
    EXPECT_LT(one.at("expert_bytes").get<int64_t>(), one.at("weight_bytes").get<int64_t>());
    EXPECT_GT(one.at("expert_bytes").get<int64_t>(), 0);
    const std::vector<int64_t> sent = ranks.at("traffic").at(rank);
    EXPECT_EQ(sent.at(rank), 0);
    EXPECT_EQ(std::accumulate(sent.begin(), sent.end(), int64_t{0}), one.at("bytes_sent").get<int64_t>());
    EXPECT_GT(one.at("bytes_sent").get<int64_t>(), 0);
  }
  EXPECT_EQ(all, tokens);

  const Json experts = server.json("/v1/experts");
  EXPECT_EQ(experts.at("experts"), 32);
  const size_t layers = experts.at("replicas").at(0).at("layers").size();
  const std::string metrics = server.get("/metrics");
  EXPECT_THAT(metrics, HasSubstr("content-type: text/plain; version=0.0.4"));
  double picks = 0;
  for (int rank = 0; rank < 4; ++rank)
    picks += value_of(metrics, "shoal_moe_rank_tokens_total{rank=\"" + std::to_string(rank) + "\"}");
  EXPECT_EQ(picks, static_cast<double>(tokens * experts.at("top_k").get<int64_t>() * static_cast<int64_t>(layers)));
  EXPECT_EQ(value_of(metrics, "shoal_step_tokens_total"), static_cast<double>(tokens));
  EXPECT_EQ(value_of(metrics, "vllm:iteration_tokens_total_sum{model_name=\"tiny\",engine=\"0\"}"),
            static_cast<double>(tokens));
  EXPECT_EQ(value_of(metrics, "vllm:iteration_tokens_total_count{model_name=\"tiny\",engine=\"0\"}"),
            value_of(metrics, "shoal_steps_total"));
  EXPECT_EQ(value_of(metrics, "vllm:prefix_cache_queries_total{model_name=\"tiny\",engine=\"0\"}"), 6 * 20);
}

TEST(Monitor, EmitsWhatDashboardsAndAlertsAskFor) {
  FourRanks server;
  server.wait_until_ready();
  server.run(2, 8, 2);
  server.get("/v1/ranks");
  const std::set<std::string> emitted = series_in(server.get("/metrics"));
  for (const char* file : {"deploy/grafana.json", "deploy/alerts.yml"})
    EXPECT_THAT(emitted, testing::IsSupersetOf(names_used_in(contents(file)))) << file;
}

TEST(Monitor, EventsBeginWithTheHistoryAndGoOn) {
  FourRanks server;
  const int early = ask(server.port(), "/v1/events");
  const std::string first = receive(early, "\"static\":");
  EXPECT_THAT(first, HasSubstr("content-type: text/event-stream"));
  EXPECT_THAT(first, HasSubstr("data: {\"type\":\"history\",\"interval_seconds\":1,"));
  EXPECT_THAT(receive(early, "\"kind\":\"ready\""), HasSubstr("\"kind\":\"ready\""));
  server.wait_for_watchers(1);
  close(early);
  server.wait_for_watchers(0);
  server.wait_until_ready();
  server.run(4, 10, 3);

  std::vector<int> watchers;
  for (size_t i = 0; i < History::kWatchers; ++i) {
    watchers.push_back(ask(server.port(), "/v1/events"));
    EXPECT_THAT(receive(watchers.back(), "\"history\""), HasSubstr("\"history\"")) << i;
  }
  EXPECT_THAT(server.get("/v1/events"), HasSubstr("HTTP/1.1 503"));
  for (const int watcher : watchers)
    EXPECT_THAT(receive(watcher, "\"type\":\"point\""), HasSubstr("\"type\":\"point\""));
  server.host().drain();
  EXPECT_THAT(receive(watchers.front(), "\"kind\":\"drain\""), HasSubstr("\"kind\":\"drain\""));
  for (const int watcher : watchers) close(watcher);
  server.wait_for_watchers(0);
}

TEST(Monitor, ManyScrapesAtATimeWhileRequestsRun) {
  FourRanks server;
  server.wait_until_ready();
  std::vector<std::thread> scrapers;
  std::atomic<int> scraped{0};
  for (int i = 0; i < 4; ++i) {
    scrapers.emplace_back([&] {
      for (int k = 0; k < 25; ++k) scraped += server.get(k % 2 ? "/metrics" : "/v1/ranks").starts_with("HTTP/1.1 200");
    });
  }
  const int64_t tokens = server.run(8, 12, 10);
  for (std::thread& scraper : scrapers) scraper.join();
  EXPECT_EQ(scraped, 100);
  EXPECT_EQ(value_of(server.get("/metrics"), "shoal_step_tokens_total"), static_cast<double>(tokens));
}

}  // namespace
}  // namespace shoal
