// SPDX-License-Identifier: Apache-2.0
// Expert statistics in TensorRT-LLM's files, read and written: a directory with
//   meta_info.json                          {"num_experts": E, "num_experts_per_token": k}
//   rank{r}.safetensors                     "{iteration}_{layer}": picks of each expert by rank r's own tokens, integers [E]
//   cooccurrence_rank{r}.safetensors        "{iteration}_{layer}": tokens that picked both experts, integers [E, E] (optional)
//   token_selected_experts_rank{r}.safetensors, or rank{r}_raw.safetensors
//                                           "{iteration}_{layer}": each token's experts, integers [tokens, k] (optional)
// Invariants of what is read: iterations follow each other, and each has every layer, in every file. A run of the reference with its balancer
// on counts slots, so `counters` may exceed num_experts. Files appear complete or not at all. Not here: counting, and what loads mean.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace shoal {

struct StatisticsMeta {
  int64_t num_experts = 0;
  int64_t num_experts_per_token = 0;
};

// Iterations start <= i < stop; absent: all that are there.
struct IterationRange {
  std::optional<int64_t> start = {};
  std::optional<int64_t> stop = {};
};

struct ExpertStatistics {
  StatisticsMeta meta;
  int64_t rank_files = 0;
  int64_t first_iteration = 0;
  int64_t counters = 0;              // of each layer: num_experts, or slots
  std::vector<int64_t> layers = {};  // ascending
  // Sums over the rank files: [iteration][layer index][counter].
  std::vector<std::vector<std::vector<int64_t>>> counts = {};

  // Over all iterations: [counter].
  std::vector<int64_t> total(size_t layer_index) const;
};

// Error: the directory or file, what it holds, what was expected and what to do; several at once where they do not depend on each other.
StatisticsMeta read_statistics_meta(const std::filesystem::path& directory);
ExpertStatistics read_expert_statistics(const std::filesystem::path& directory, const IterationRange& range = {});

// Tokens that picked both of two experts, [E, E] by layer, summed over ranks and iterations; from the token selections where there is no
// file of co-occurrences. Error if there is neither.
using Cooccurrence = std::map<int64_t, std::vector<int64_t>>;
Cooccurrence read_cooccurrence(const std::filesystem::path& directory, const IterationRange& range = {});

// The experts of the tokens of one rank, layer and iteration: [tokens, top_k].
struct TokenSelections {
  int64_t rank = 0;
  int64_t iteration = 0;
  int64_t layer = 0;
  int64_t top_k = 0;
  std::span<const int64_t> experts;  // valid during the call
};
// Calls `visit` for each, by rank, iteration and layer. Error if there are none.
void visit_token_selections(const std::filesystem::path& directory, const IterationRange& range,
                            const std::function<void(const TokenSelections&)>& visit);

// One tensor of a file.
struct StatisticsTensor {
  int64_t iteration = 0;
  int64_t layer = 0;
  std::vector<int64_t> shape;
  std::vector<int64_t> values;
};
enum class StatisticsFile { kCounts, kCooccurrence, kTokenSelections };

// Makes the directory and its meta_info.json, and removes the optional files of an earlier run. Error if it holds files of ranks that this run
// does not have: they would be counted with it.
void start_statistics(const std::filesystem::path& directory, const StatisticsMeta& meta, int64_t ranks);
void write_statistics(const std::filesystem::path& directory, StatisticsFile kind, int64_t rank,
                      const std::vector<StatisticsTensor>& tensors);

}  // namespace shoal
