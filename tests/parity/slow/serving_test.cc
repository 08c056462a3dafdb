// SPDX-License-Identifier: Apache-2.0
// Under load: 200 requests with random arrivals, lengths, seeds, shared beginnings and cancellations, in a cache so small that running ones
// are preempted, give token for token what each gives alone: on one rank, or with context parallelism, which rounds in its own way, on the
// same ranks. And thousands of short requests leave nothing behind.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <random>
#include <thread>

#include "engine/engine.h"
#include "tests/parity/layouts.h"

namespace shoal {
namespace {

constexpr int kRequests = 200;
constexpr int64_t kLongest = 2000;

struct Request {
  std::vector<int32_t> prompt;
  SamplingParams params;
  SchedulingParams scheduling;
  int64_t cancel_after = -1;  // tokens; -1: never
};

// Two whose prompts fit into one group's 66 pages (32 each), and not with what they generate (35 each).
void add_squeeze(int group, int64_t vocab, std::vector<Request>& requests) {
  std::mt19937 random(100 + static_cast<uint32_t>(group));
  for (int i = 0; i < 2; ++i) {
    Request request;
    for (int64_t j = 0; j < 1000; ++j) request.prompt.push_back(static_cast<int32_t>(random() % vocab));
    request.params.max_tokens = 100;
    request.params.ignore_eos = true;
    request.scheduling.attention_dp_rank = group;
    request.scheduling.priority = 1.0;
    requests.push_back(std::move(request));
  }
}

// Lengths evenly spread over their logarithm; half of the prompts begin like others before them.
std::vector<Request> random_requests(int64_t vocab, int groups) {
  std::mt19937 random(7);
  std::vector<Request> requests;
  for (int group = 0; group < groups; ++group) add_squeeze(group, vocab, requests);
  for (int i = 0; i < kRequests; ++i) {
    Request request;
    const double share = std::uniform_real_distribution<>(0, 1)(random);
    const auto length = std::clamp(static_cast<int64_t>(std::pow(kLongest, share)), int64_t{1}, kLongest);
    if (random() % 2 == 0) {
      request.prompt = requests[random() % requests.size()].prompt;
      request.prompt.resize(std::min<int64_t>(length, 1 + static_cast<int64_t>(random() % request.prompt.size())));
    }
    while (std::ssize(request.prompt) < length) request.prompt.push_back(static_cast<int32_t>(random() % vocab));
    request.params.max_tokens = 1 + static_cast<int64_t>(random() % 24);
    request.params.ignore_eos = random() % 4 != 0;
    request.params.temperature = random() % 2 == 0 ? 0.0f : 0.9f;
    request.params.seed = random();
    request.scheduling.priority = static_cast<double>(random() % 5) / 4;
    if (random() % 8 == 0) request.scheduling.cache_salt = "mine";
    if (random() % 4 == 0) request.scheduling.attention_dp_rank = static_cast<int>(random() % groups);
    if (random() % 10 == 0) request.cancel_after = static_cast<int64_t>(random() % 8);
    requests.push_back(std::move(request));
  }
  return requests;
}

struct ServingCase {
  Layout layout;
  std::string model;
  std::string policy;
  bool preempts = false;  // for sure; with gpt_oss the window's pool may bound how many start
  bool deterministic = false;
};

void PrintTo(const ServingCase& c, std::ostream* out) { *out << c.layout.name << ' ' << c.model << ' ' << c.policy; }

EngineConfig config_for(const ServingCase& c, const Layout& layout) {
  EngineConfig config = config_of(layout, "float32");
  config.deterministic = c.deterministic;
  config.max_batch_size = 8;
  config.max_num_tokens = 512;
  config.enable_chunked_prefill = true;
  config.scheduler.capacity_scheduler_policy = c.policy;
  config.scheduler.waiting_queue_policy = "priority";
  config.attention_dp.enable_balance = true;
  config.attention_dp.enable_kv_cache_aware_routing = true;
  config.kv_cache.max_tokens = kLongest + 100;
  return config;
}

// Submits with random pauses, cancels on the way, and waits for all.
class Client {
 public:
  Client(Engine& engine, const std::vector<Request>& requests)
      : engine_(engine), requests_(requests), results_(requests.size()), left_(std::ssize(requests)) {}

  std::vector<GenerationResult> run() {
    std::mt19937 random(11);
    for (size_t i = 0; i < requests_.size(); ++i) {
      submit(i);
      if (random() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
    }
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return left_ == 0; });
    return std::move(results_);
  }

 private:
  void submit(size_t i) {
    const auto id = std::make_shared<std::atomic<uint64_t>>(0);
    RequestCallbacks callbacks;
    const int64_t cancel_after = requests_[i].cancel_after;
    callbacks.on_output = [this, id, cancel_after, tokens = int64_t{0}](const OutputDelta&) mutable {
      if (++tokens == cancel_after && *id != 0) engine_.cancel(*id);
    };
    callbacks.on_finish = [this, i](GenerationResult result) {
      const std::lock_guard lock(mutex_);
      results_[i] = std::move(result);
      if (--left_ == 0) done_.notify_all();
    };
    *id = engine_.submit(requests_[i].prompt, requests_[i].params, std::move(callbacks), requests_[i].scheduling);
    if (cancel_after == 0) engine_.cancel(*id);
  }

  Engine& engine_;
  const std::vector<Request>& requests_;
  std::mutex mutex_;
  std::condition_variable done_;
  std::vector<GenerationResult> results_;
  int64_t left_;
};

class Serving : public ::testing::TestWithParam<ServingCase> {};

TEST_P(Serving, GivesWhatEachRequestGivesAlone) {
  const ServingCase& c = GetParam();
  const std::filesystem::path model = std::filesystem::path("tests/golden") / c.model;
  Engine engine(model, config_for(c, c.layout));
  const std::vector<Request> requests = random_requests(engine.spec().vocab, engine.mesh().sizes().attention_data);
  const std::vector<GenerationResult> results = Client(engine, requests).run();
  EngineConfig alone_config = config_for(c, c.layout.cp > 1 ? c.layout : Layout{"one"});
  alone_config.kv_cache.enable_block_reuse = false;
  alone_config.max_num_tokens = kLongest;
  Engine alone(model, alone_config);
  int cancelled = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_EQ(results[i].error, "");
    const GenerationResult expected = alone.generate({requests[i].prompt}, requests[i].params).front();
    std::vector<int32_t> tokens = expected.token_ids;
    if (results[i].finish_reason == FinishReason::kCancelled) {
      ++cancelled;
      ASSERT_LE(results[i].token_ids.size(), tokens.size());
      tokens.resize(results[i].token_ids.size());
    } else {
      EXPECT_EQ(results[i].finish_reason, expected.finish_reason) << i;
    }
    EXPECT_EQ(results[i].token_ids, tokens)
        << i << ": prompt of " << requests[i].prompt.size() << ", " << results[i].cached_tokens << " cached";
  }
  const CacheUse use = engine.cache_use();
  EXPECT_EQ(use.used_pages, 0);
  EXPECT_GT(use.stats.reused_tokens, 0);
  EXPECT_GT(use.stats.evicted_pages, 0);
  EXPECT_GT(cancelled, 0);
  if (c.preempts) {
    EXPECT_GT(use.preemptions, 0);
  }
  if (c.policy == "GUARANTEED_NO_EVICT") {
    EXPECT_EQ(use.preemptions, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, Serving,
    ::testing::Values(ServingCase{{"tp2", 2}, "qwen3", "MAX_UTILIZATION", true},
                      ServingCase{{"tp2", 2}, "qwen3", "GUARANTEED_NO_EVICT"},
                      ServingCase{{"pp2", 1, 2}, "gpt_oss", "MAX_UTILIZATION"},
                      ServingCase{{"pp2", 1, 2}, "deepseek_v3", "MAX_UTILIZATION", true},
                      ServingCase{{"adp4_ep4", 4, 1, 1, 1, 4, 4}, "deepseek_v3", "MAX_UTILIZATION", true, true},
                      ServingCase{{"adp4_ep4", 4, 1, 1, 1, 4, 4}, "llama4", "GUARANTEED_NO_EVICT", false, true},
                      ServingCase{{.name = "cp2_ring_helix", .cp = 2}, "qwen3", "MAX_UTILIZATION", true},
                      ServingCase{{.name = "cp4_ulysses", .cp = 4, .cp_type = "ULYSSES"}, "qwen3", "MAX_UTILIZATION"},
                      ServingCase{{.name = "tp2_cp2", .tp = 2, .cp = 2}, "deepseek_v3", "MAX_UTILIZATION", true, true}),
    [](const auto& row) { return row.param.layout.name + "__" + row.param.model + "__" + row.param.policy; });

int64_t resident_kib() {
  std::ifstream status("/proc/self/statm");
  int64_t size = 0, resident = 0;
  status >> size >> resident;
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

TEST(Leaks, TenThousandShortRequestsLeaveNothingBehind) {
  EngineConfig config = config_of({"tp2", 2}, "float32");
  config.kv_cache.max_tokens = 512;
  config.max_batch_size = 64;
  config.max_num_tokens = 256;
  Engine engine("tests/golden/qwen3", config);
  std::mt19937 random(3);
  const auto thousand = [&] {
    std::vector<std::vector<int32_t>> prompts;
    for (int i = 0; i < 1000; ++i)
      prompts.push_back({static_cast<int32_t>(random() % 200), static_cast<int32_t>(i % 9)});
    SamplingParams params;
    params.max_tokens = 2;
    params.ignore_eos = true;
    engine.generate(prompts, params);
  };
  thousand();
  thousand();
  const int64_t before = resident_kib();
  for (int i = 0; i < 8; ++i) thousand();
  EXPECT_LT(resident_kib() - before, 2048);
  EXPECT_EQ(engine.cache_use().used_pages, 0);
}

}  // namespace
}  // namespace shoal
