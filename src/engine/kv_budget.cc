// SPDX-License-Identifier: Apache-2.0
#include "engine/kv_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/error.h"

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

int64_t kv_pages(const KvBudgetInput& input) {
  const EngineConfig& config = input.config;
  const int64_t block = config.kv_cache.tokens_per_block;
  const auto pages_for = [&](double tokens) {
    return static_cast<int64_t>((tokens + static_cast<double>(block) - 1) / static_cast<double>(block));
  };
  int64_t weights = 0, activations = 0, largest_page = 0;
  for (const RankPlan& plan : input.plans) {
    weights += plan.weight_bytes;
    activations +=
        plan.activation_bytes(config.max_num_tokens, input.max_seq_len) + plan.comm_bytes(config.max_num_tokens);
    largest_page = std::max(largest_page, plan.kv_bytes_per_token * block);
  }
  const int64_t rest = input.available_bytes - weights - activations;
  const double share =
      config.kv_cache.free_memory_fraction * static_cast<double>(rest) / static_cast<double>(input.plans.size());
  const std::string account =
      fmt::format("{} of memory available ({}), {} for the weights of {} ranks, {} for a step of max_num_tokens {}",
                  format_bytes(static_cast<double>(input.available_bytes)), input.memory_limit,
                  format_bytes(static_cast<double>(weights)), input.plans.size(),
                  format_bytes(static_cast<double>(activations)), config.max_num_tokens);
  if (rest <= 0 || share < static_cast<double>(largest_page)) {
    throw Error(
        ErrorKind::kLimit,
        fmt::format(
            "the model does not fit: {}, which leaves less than one KV page of {} a rank; use fewer replicas, lower "
            "max_num_tokens, or a machine with more memory",
            account, format_bytes(static_cast<double>(largest_page))));
  }
  // More than every sequence at full length is never used; slots are 32-bit numbers.
  int64_t pages = pages_for(static_cast<double>(input.max_seq_len) * static_cast<double>(config.max_batch_size) *
                            static_cast<double>(config.pipeline_parallel_size));
  pages = std::min(pages, std::numeric_limits<int32_t>::max() / block);
  if (largest_page > 0) pages = std::min(pages, static_cast<int64_t>(share / static_cast<double>(largest_page)));
  if (config.kv_cache.max_tokens) pages = std::min(pages, pages_for(static_cast<double>(*config.kv_cache.max_tokens)));
  CHECK_GE(pages, 1);
  return pages;
}

}  // namespace shoal
