// SPDX-License-Identifier: Apache-2.0
#include "engine/kv_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/whole.h"

namespace shoal {

std::string format_bytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (bytes >= 1024.0 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024.0;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, kUnits[unit]);
}

namespace {

// Pages of every pool on a rank whose pools that do not slide have `pages`.
std::vector<int64_t> pool_pages(const KvBudgetInput& input, int64_t pages) {
  const int64_t block = input.config.kv_cache.tokens_per_block, cp = input.config.context_parallel_size;
  std::vector<int64_t> result;
  for (const KvPoolKind& kind : input.pools) {
    result.push_back(pages);
    if (!kind.slides()) continue;
    const int64_t span = kWindowsOfASequence * std::max(kind.window, kind.chunk);
    const int64_t length = std::min(input.max_seq_len, span);
    const int64_t part = ceil_div(pages * kind.most_blocks(length, 1, block), ceil_div(length, block));
    const int64_t one = ceil_div(kind.most_blocks(input.max_seq_len, input.config.max_num_tokens, block), cp);
    result.back() = std::min(pages, std::max(part, one));
  }
  return result;
}

// On the rank where they take most.
double page_bytes(const KvBudgetInput& input, const std::vector<int64_t>& pages) {
  int64_t most = 0;
  for (const RankPlan& plan : input.plans)
    most = std::max(most, plan.kv_bytes(pages, input.config.kv_cache.tokens_per_block));
  return static_cast<double>(most);
}

KvSizes sizes_of(const KvBudgetInput& input, int64_t pages) {
  return {.pages = pool_pages(input, pages),
          .tokens = pages * input.config.kv_cache.tokens_per_block * input.config.context_parallel_size};
}

// More than every sequence at full length is never used; slots are 32-bit numbers.
int64_t most_pages(const KvBudgetInput& input) {
  const EngineConfig& config = input.config;
  const int64_t block = config.kv_cache.tokens_per_block;
  const double tokens = static_cast<double>(input.max_seq_len) * static_cast<double>(config.max_batch_size) *
                        static_cast<double>(config.pipeline_parallel_size);
  double pages = std::ceil(tokens / static_cast<double>(block));
  if (config.kv_cache.max_tokens)
    pages = std::min(pages, std::ceil(static_cast<double>(*config.kv_cache.max_tokens) / static_cast<double>(block)));
  pages = std::ceil(pages / static_cast<double>(config.context_parallel_size));
  const int64_t most = std::numeric_limits<int32_t>::max() / block;  // slots are 32-bit numbers
  return static_cast<int64_t>(std::min(pages, static_cast<double>(most)));
}

// Bytes: of all ranks, and of one page on the rank where it takes most.
struct Need {
  double weights = 0;
  double steps = 0;
  double page = 0;
};

Need need_of(const KvBudgetInput& input) {
  Need need{.page = page_bytes(input, pool_pages(input, 1))};
  for (const RankPlan& plan : input.plans) {
    need.weights += static_cast<double>(plan.weight_bytes);
    need.steps += static_cast<double>(plan.activation_bytes + plan.comm_bytes);
  }
  return need;
}

std::string what_would_fit(const KvBudgetInput& input, const Need& need) {
  const auto available = static_cast<double>(input.available_bytes);
  const double pages = need.page * static_cast<double>(input.plans.size()) / input.config.kv_cache.free_memory_fraction;
  const int64_t replicas = input.config.data_parallel_size;
  const double one_replica = (need.weights + need.steps + pages) / static_cast<double>(replicas);
  if (replicas > 1 && one_replica <= available)
    return fmt::format("data_parallel_size {} would fit", static_cast<int64_t>(available / one_replica));
  const double left = available - need.weights - pages;
  if (left > 0)
    return fmt::format("steps that take {} at most would fit: lower max_num_tokens or max_batch_size",
                       format_bytes(left));
  return fmt::format("{} would do: use a machine with more memory, or a smaller model or dtype",
                     format_bytes(one_replica));
}

}  // namespace

KvSizes kv_sizes(const KvBudgetInput& input) {
  const Need need = need_of(input);
  const auto ranks = static_cast<double>(input.plans.size());
  const double rest = static_cast<double>(input.available_bytes) - need.weights - need.steps;
  const double share = input.config.kv_cache.free_memory_fraction * rest / ranks;
  if (rest <= 0 || share < need.page) {
    throw Error(
        ErrorKind::kLimit,
        fmt::format(
            "the model does not fit: {} of memory available ({}), {} for the weights of {} ranks, {} for a step of "
            "max_num_tokens {} and max_batch_size {}, which leaves less than one KV page of {} a rank; {}",
            format_bytes(static_cast<double>(input.available_bytes)), input.memory_limit, format_bytes(need.weights),
            input.plans.size(), format_bytes(need.steps), input.config.max_num_tokens, input.config.max_batch_size,
            format_bytes(need.page), what_would_fit(input, need)));
  }
  int64_t low = 1, high = most_pages(input);  // the largest number of pages that fits
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (page_bytes(input, pool_pages(input, middle)) <= share) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return sizes_of(input, low);
}

KvSizes kv_sizes_for(const KvBudgetInput& input, int64_t tokens) {
  const int64_t blocks = ceil_div(tokens, input.config.kv_cache.tokens_per_block);
  return sizes_of(input, ceil_div(blocks, input.config.context_parallel_size));
}

}  // namespace shoal
