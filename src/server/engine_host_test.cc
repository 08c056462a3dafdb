// SPDX-License-Identifier: Apache-2.0
#include "server/engine_host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "base/error.h"
#include "server/fault_injection.h"

namespace shoal {
namespace {

using testing::HasSubstr;

constexpr const char* kModel = "tests/golden/llama";

EngineConfig small() {
  EngineConfig config;
  config.tensor_parallel_size = 2;
  config.threads_per_rank = 1;
  config.kv_cache.max_tokens = 256;
  return config;
}

// Waits until the state is reached.
bool reaches(const EngineHost& host, HostState state) {
  for (int i = 0; i < 3000; ++i) {
    if (host.status().state == state) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

GenerationResult ask(EngineHost& host) {
  std::promise<GenerationResult> promise;
  RequestCallbacks callbacks;
  callbacks.on_finish = [&](GenerationResult result) { promise.set_value(std::move(result)); };
  host.engine()->submit({1, 2, 3}, {.max_tokens = 6, .ignore_eos = true}, std::move(callbacks));
  return promise.get_future().get();
}

TEST(EngineHost, BuildsANewEngineWhenARankHasFailed) {
  const auto wrap = inject({{.rank = 1, .step = 3}});
  EngineHost host(
      [&](EngineHooks hooks) {
        hooks.wrap_model = wrap;
        return std::make_unique<Engine>(kModel, small(), hooks);
      },
      {.first_pause_seconds = 0.01}, [](std::exception_ptr) { ADD_FAILURE() << "the host gave up"; });
  EXPECT_EQ(host.engine(), nullptr);
  host.start();
  ASSERT_TRUE(reaches(host, HostState::kReady));
  const GenerationResult failed = ask(host);
  EXPECT_EQ(failed.finish_reason, FinishReason::kError);
  EXPECT_THAT(failed.error, HasSubstr("rank 1"));
  while (host.status().restarts == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ASSERT_TRUE(reaches(host, HostState::kReady));
  EXPECT_THAT(host.status().failure, HasSubstr("killed at step 3"));
  EXPECT_EQ(ask(host).finish_reason, FinishReason::kLength);
}

TEST(EngineHost, TheFirstFailureEndsIt) {
  std::promise<std::string> ended;
  EngineHost host(
      [](const EngineHooks&) -> std::unique_ptr<Engine> { throw Error(ErrorKind::kInvalid, "no such model"); }, {},
      [&](std::exception_ptr cause) {
        try {
          std::rethrow_exception(cause);
        } catch (const Error& error) {
          ended.set_value(error.what());
        }
      });
  host.start();
  EXPECT_EQ(ended.get_future().get(), "no such model");
}

TEST(EngineHost, NamesARankThatStalls) {
  const auto wrap = inject({{.rank = 0, .step = 2, .stall_seconds = 3}});
  EngineHost host(
      [&](EngineHooks hooks) {
        hooks.wrap_model = wrap;
        return std::make_unique<Engine>(kModel, small(), hooks);
      },
      {.stall_seconds = 0.5}, [](std::exception_ptr) {});
  host.start();
  ASSERT_TRUE(reaches(host, HostState::kReady));
  auto asked = std::async(std::launch::async, [&] { return ask(host); });
  // A busy machine may hold up any step of any rank: what counts is that this one is named, and that it passes.
  bool named = false;
  while (asked.wait_for(std::chrono::milliseconds(20)) != std::future_status::ready) {
    host.watch();
    named = named || host.status().stall.starts_with("rank 0 ");
  }
  EXPECT_TRUE(named);
  EXPECT_EQ(asked.get().finish_reason, FinishReason::kLength);
  for (int i = 0; i < 3000 && !host.status().stall.empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    host.watch();
  }
  EXPECT_EQ(host.status().stall, "");
}

TEST(FaultPlans, AreRead) {
  const FaultPlan kill = parse_fault("rank=3,step=100,kill");
  EXPECT_EQ(kill.rank, 3);
  EXPECT_EQ(kill.step, 100);
  EXPECT_EQ(kill.stall_seconds, 0);
  EXPECT_DOUBLE_EQ(parse_fault("rank=1,step=2,stall=0.5s").stall_seconds, 0.5);
  for (const char* wrong :
       {"", "rank=1", "rank=x,step=1,kill", "rank=1,step=0,kill", "rank=1,stall=-1s", "rank=1,step=2,kil"})
    EXPECT_THROW(parse_fault(wrong), Error) << wrong;
}

}  // namespace
}  // namespace shoal
