// SPDX-License-Identifier: Apache-2.0
// Placements as other engines make them, to compare with and to exchange files with: the greedy of DeepSeek's EPLB, which TensorRT-LLM,
// SGLang and vLLM use as well, and TensorRT-LLM's variant for experts that tokens pick together. They are for copies that share evenly.
// They may place two copies of an expert on one rank. Not here: what this engine plans by itself (balance.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/balance.h"
#include "parallel/placement.h"

namespace shoal {

// Copies go one by one to the expert with the largest load per copy; then, heaviest first, each to the lightest rank with room.
Placement greedy_placement(std::span<const double> load_of_expert, const SlotGrid& grid);

// The same in three levels: `groups` of consecutive experts are packed onto grid.nodes, each node copies its own experts and packs them onto
// its ranks. Error unless nodes divide groups and groups divide experts.
Placement hierarchical_placement(std::span<const double> load_of_expert, const SlotGrid& grid, int64_t groups);

// Greedy copies; each rank in turn takes those that occur most with what it holds, until it has alpha of its slots or alpha of the mean load;
// the rest goes heaviest first to the lightest rank with room. `pairs` [experts, experts]: tokens that picked both.
Placement cooccurrence_placement(std::span<const double> load_of_expert, std::span<const int64_t> pairs,
                                 const SlotGrid& grid, double alpha);

}  // namespace shoal
