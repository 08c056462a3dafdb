// SPDX-License-Identifier: Apache-2.0
// Collectives between rank threads: time of one operation by ranks and bytes a rank, beside the time that one thread needs to copy as
// many bytes in the same run (`copies`: how many such copies the operation is worth). best_us is what counts on a shared machine.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "comm/moe_exchange.h"
#include "comm/thread/thread_world.h"

namespace shoal {
namespace {

using Clock = std::chrono::steady_clock;

double microseconds(Clock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

Tensor zeros(DType dtype, const Shape& shape) {
  const auto bytes = static_cast<size_t>(shape.elements()) * dtype_bytes(dtype);
  return {dtype, shape, std::shared_ptr<std::byte[]>(new std::byte[bytes]())};
}

// What one rank repeats; made in its thread.
using Operation = std::function<void()>;
using MakeOperation = std::function<Operation(Comm&)>;

// Microseconds of one operation: the mean of `repeats`, best of `batches`, after one batch to warm up.
struct Timing {
  double mean_us = 0;
  double best_us = 1e30;
};

Timing time_ranks(int ranks, int repeats, const MakeOperation& make) {
  constexpr int kBatches = 60;  // short ones, so that some run undisturbed
  ThreadWorld world(ranks);
  std::vector<int> all;
  for (int rank = 0; rank < ranks; ++rank) all.push_back(rank);
  Timing timing;
  const auto run_rank = [&](int rank) {
    const ThreadWorld::RankScope scope(world, rank);
    const auto comm = world.group(all, rank, "all");
    const Operation operation = make(*comm);
    for (int batch = 0; batch <= kBatches; ++batch) {
      comm->barrier();
      const auto start = Clock::now();
      for (int i = 0; i < repeats; ++i) operation();
      const double each = microseconds(Clock::now() - start) / repeats;
      if (rank > 0 || batch == 0) continue;
      timing.mean_us += each / kBatches;
      timing.best_us = std::min(timing.best_us, each);
    }
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(run_rank, rank);
  for (std::thread& thread : threads) thread.join();
  return timing;
}

double copy_us(int64_t bytes, int repeats) {
  const std::vector<std::byte> from(static_cast<size_t>(bytes), std::byte{1});
  std::vector<std::byte> to(static_cast<size_t>(bytes));
  double best = 1e30;
  for (int batch = 0; batch < 5; ++batch) {
    const auto start = Clock::now();
    for (int i = 0; i < repeats; ++i) {
      std::memcpy(to.data(), from.data(), from.size());
      benchmark::DoNotOptimize(to.data());
      benchmark::ClobberMemory();
    }
    best = std::min(best, microseconds(Clock::now() - start) / repeats);
  }
  return best;
}

int repeats_for(int64_t bytes) {
  return static_cast<int>(std::clamp<int64_t>((int64_t{2} << 20) / (bytes + 1), 3, 100));
}

void report(benchmark::State& state, int64_t bytes, const MakeOperation& make) {
  const int repeats = repeats_for(bytes);
  const double copy = copy_us(bytes, repeats);
  double best = 1e30;
  for (auto _ : state) {
    const Timing timing = time_ranks(static_cast<int>(state.range(0)), repeats, make);
    state.SetIterationTime(timing.mean_us * 1e-6);
    best = std::min(best, timing.best_us);
  }
  state.counters["best_us"] = best;
  state.counters["copy_us"] = copy;
  state.counters["copies"] = best / copy;
}

// As a backend's pool: the n-th request of a call gets the memory of the last call's n-th.
struct Arena {
  std::vector<Tensor> tensors;
  size_t next = 0;

  static Tensor allocate(void* context, DType dtype, const Shape& shape) {
    Arena& arena = *static_cast<Arena*>(context);
    if (arena.next == arena.tensors.size()) arena.tensors.push_back(zeros(dtype, shape));
    return arena.tensors[arena.next++];
  }
};

void all_reduce(benchmark::State& state) {
  report(state, state.range(1), [&](Comm& comm) {
    const Tensor tensor = zeros(DType::kF32, {1, state.range(1) / 4});
    return [&comm, tensor] { comm.all_reduce({&tensor, 1}); };
  });
}

// `bytes` leave each rank, the same share to every rank.
void all_to_all(benchmark::State& state) {
  report(state, state.range(1), [&](Comm& comm) {
    const std::vector<int64_t> ones(static_cast<size_t>(comm.size()), 1);
    const Shape shape{comm.size(), state.range(1) / 4 / comm.size()};
    return [&comm, ones, in = zeros(DType::kF32, shape), out = zeros(DType::kF32, shape)] {
      comm.all_to_all(in, ones, out, ones);
    };
  });
}

void barrier(benchmark::State& state) {
  report(state, 8, [](Comm& comm) { return [&comm] { comm.barrier(); }; });
}

// dispatch and combine_sums of a DeepSeek-like layer at small scale: hidden 1024, bf16, top-8 of 64 experts, tokens a rank.
void moe_exchange(benchmark::State& state) {
  constexpr int64_t kHidden = 1024, kTopK = 8, kExperts = 64;
  const int64_t tokens = state.range(1);
  report(state, tokens * kHidden * 2, [&](Comm& comm) {
    const auto arena = std::make_shared<Arena>();
    const auto exchange = std::make_shared<MoeExchange>(
        comm, MoeExchangeShape{.ep = comm.size(), .moe_tp = 1, .slots_per_rank = kExperts / comm.size()},
        MoeExchange::Allocator{.function = Arena::allocate, .context = arena.get()});
    const Tensor rows = zeros(DType::kBF16, {tokens, kHidden});
    const Tensor weights = zeros(DType::kF32, {tokens, kTopK});
    const std::shared_ptr<int32_t[]> slots(new int32_t[static_cast<size_t>(tokens * kTopK)]);
    for (int64_t i = 0; i < tokens * kTopK; ++i)
      slots[i] = static_cast<int32_t>((i * 37 + comm.rank() * 11) % kExperts);
    const Tensor routed(DType::kI32, {tokens, kTopK}, slots);
    return [=] {
      arena->next = 0;
      exchange->announce(routed);
      const Dispatched received = exchange->dispatch(rows, routed, weights);
      exchange->combine_sums(Arena::allocate(arena.get(), DType::kF32, {received.rows.rows(), kHidden}));
    };
  });
}

void sizes(benchmark::internal::Benchmark* bench) {
  for (const int64_t ranks : {2, 4, 8}) {
    for (const int64_t bytes : {64, 8 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20})
      bench->Args({ranks, bytes});
  }
  bench->ArgNames({"ranks", "bytes"})->UseManualTime()->Iterations(1)->Unit(benchmark::kMicrosecond);
}

BENCHMARK(all_reduce)->Apply(sizes);
BENCHMARK(all_to_all)->Apply(sizes);
BENCHMARK(barrier)->ArgName("ranks")->Arg(2)->Arg(4)->Arg(8)->UseManualTime()->Iterations(1)->Unit(
    benchmark::kMicrosecond);
BENCHMARK(moe_exchange)
    ->ArgNames({"ranks", "tokens"})
    ->ArgsProduct({{2, 4, 8}, {1, 32, 512}})
    ->UseManualTime()
    ->Iterations(1)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace shoal
