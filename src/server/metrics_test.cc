// SPDX-License-Identifier: Apache-2.0
#include "server/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

namespace shoal {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::Pair;
using testing::UnorderedElementsAre;

int64_t total(const Distribution& distribution) {
  const std::vector<int64_t> counts = distribution.counts();
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

TEST(Distribution, ABoundBelongsToItsClass) {
  Distribution distribution({1, 2.5});
  for (const double value : {0.0, 1.0, 1.01, 2.5, 3.0}) distribution.add(value);
  EXPECT_THAT(distribution.counts(), ElementsAre(2, 2, 1));
  EXPECT_DOUBLE_EQ(distribution.sum(), 7.51);
}

TEST(RequestMeter, CountsEachPhaseOfARequestThatEnds) {
  ServerMetrics metrics;
  const auto begin = ServerMetrics::Clock::now();
  RequestMeter meter(metrics, 100, 8, begin);
  EXPECT_EQ(metrics.waiting(), 1);
  EXPECT_EQ(metrics.unfinished(), 1);
  meter.started(begin + milliseconds(500));
  EXPECT_EQ(metrics.waiting(), 0);
  meter.token(begin + milliseconds(1500));
  meter.token(begin + milliseconds(1600));
  meter.token(begin + milliseconds(1900));
  meter.finished(FinishReason::kLength, 64, begin + milliseconds(2000));
  EXPECT_EQ(metrics.unfinished(), 0);

  const RequestTimings times = meter.timings();
  EXPECT_NEAR(times.queue, 0.5, 1e-9);
  EXPECT_NEAR(times.prefill, 1.0, 1e-9);
  EXPECT_NEAR(times.decode, 0.4, 1e-9);
  EXPECT_NEAR(times.total, 2.0, 1e-9);

  const RequestDistributions& requests = metrics.requests();
  EXPECT_NEAR(requests.time_to_first_token.sum(), 1.5, 1e-9);
  EXPECT_EQ(total(requests.inter_token), 2);
  EXPECT_NEAR(requests.inter_token.sum(), 0.4, 1e-9);
  EXPECT_NEAR(requests.time_per_output_token.sum(), 0.2, 1e-9);
  EXPECT_NEAR(requests.inference.sum(), 1.5, 1e-9);
  EXPECT_NEAR(requests.total.sum(), 2.0, 1e-9);
  EXPECT_EQ(requests.prompt_tokens.sum(), 100);
  EXPECT_EQ(requests.generated_tokens.sum(), 3);
  EXPECT_EQ(requests.max_tokens.sum(), 8);
  EXPECT_EQ(total(metrics.fine_total()), 1);

  const ServerMetrics::Counts counts = metrics.counts();
  EXPECT_EQ(counts.prompt_tokens, 100);
  EXPECT_EQ(counts.cached_tokens, 64);
  EXPECT_EQ(counts.generated_tokens, 3);
  EXPECT_THAT(counts.finished,
              UnorderedElementsAre(Pair("stop", 0), Pair("length", 1), Pair("abort", 0), Pair("error", 0)));
}

TEST(RequestMeter, ACancelledOneInTheQueueHasNoPrefillAndNoDecode) {
  ServerMetrics metrics;
  {
    RequestMeter meter(metrics, 10, 8);
    meter.finished(FinishReason::kCancelled, 0);
    meter.finished(FinishReason::kStop, 0);  // the first counts
  }
  EXPECT_EQ(metrics.waiting(), 0);
  EXPECT_EQ(metrics.counts().finished.at("abort"), 1);
  EXPECT_EQ(metrics.counts().finished.at("stop"), 0);
  EXPECT_EQ(metrics.counts().prompt_tokens, 0);
  EXPECT_EQ(total(metrics.requests().total), 1);
  EXPECT_EQ(total(metrics.requests().prefill), 0);
  EXPECT_EQ(total(metrics.requests().decode), 0);
  EXPECT_EQ(total(metrics.requests().inference), 0);
}

TEST(RequestMeter, OneThatNobodyEndsIsAnError) {
  ServerMetrics metrics;
  { RequestMeter meter(metrics, 10, 8); }
  EXPECT_EQ(metrics.counts().finished.at("error"), 1);
  EXPECT_EQ(metrics.unfinished(), 0);
}

TEST(ServerMetrics, TheOldestWaitingRequestIsTheOneThatArrivedFirst) {
  ServerMetrics metrics;
  const auto now = ServerMetrics::Clock::now();
  RequestMeter young(metrics, 1, 1, now - milliseconds(100));
  RequestMeter old(metrics, 1, 1, now - milliseconds(5000));
  EXPECT_GE(metrics.oldest_waiting_seconds(), 5.0);
  old.started();
  EXPECT_LT(metrics.oldest_waiting_seconds(), 5.0);
  EXPECT_GE(metrics.oldest_waiting_seconds(), 0.1);
}

TEST(ServerMetrics, RefusalsAndAnswersAreCountedByTheirKind) {
  ServerMetrics metrics;
  metrics.accepted(3, 40);
  metrics.refused("queue_full");
  metrics.refused("queue_full");
  metrics.refused("too_new_to_be_known");
  metrics.http_request("POST", "/v1/chat/completions", 200, 0.2);
  metrics.http_request("POST", "/v1/chat/completions", 429, 0.001);
  EXPECT_EQ(metrics.counts().refused.at("queue_full"), 2);
  EXPECT_EQ(metrics.counts().refused.at("too_new_to_be_known"), 1);
  EXPECT_EQ(metrics.counts().http.at({"POST", "/v1/chat/completions", 429}), 1);
  ASSERT_EQ(metrics.http_seconds().size(), 1u);
  EXPECT_EQ(total(*metrics.http_seconds().front().second), 2);
  EXPECT_EQ(metrics.requests().choices.sum(), 3);
}

TEST(ServerMetrics, WhatClientsMakeUpBecomesNoSeries) {
  ServerMetrics metrics;
  for (int i = 0; i < 50; ++i) {
    metrics.http_request("BREW" + std::to_string(i), "", 404, 0.001);
    metrics.http_request("GET", "", 404, 0.001);
  }
  EXPECT_EQ(metrics.counts().http.size(), 2u);
  EXPECT_EQ(metrics.counts().http.at({"other", "none", 404}), 50);
  EXPECT_EQ(metrics.counts().http.at({"GET", "none", 404}), 50);
}

TEST(ServerMetrics, ManyThreadsLoseNothing) {
  ServerMetrics metrics;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&metrics] {
      for (int i = 0; i < 200; ++i) {
        RequestMeter meter(metrics, 2, 4);
        for (int token = 0; token < 3; ++token) meter.token();
        meter.finished(FinishReason::kStop, 1);
        metrics.http_request("GET", "/metrics", 200, 0.001);
        static_cast<void>(metrics.counts());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(metrics.counts().generated_tokens, 2400);
  EXPECT_EQ(metrics.counts().prompt_tokens, 1600);
  EXPECT_EQ(total(metrics.requests().inter_token), 1600);
  EXPECT_EQ(metrics.counts().http.at({"GET", "/metrics", 200}), 800);
  EXPECT_EQ(metrics.unfinished(), 0);
}

}  // namespace
}  // namespace shoal
