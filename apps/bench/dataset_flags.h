// SPDX-License-Identifier: Apache-2.0
// The flags of `shoal bench` that choose requests, under the names that vLLM and trtllm-bench give them.
#pragma once

#include <CLI/CLI.hpp>

#include "apps/bench/arrivals.h"
#include "apps/bench/dataset.h"

namespace shoal::bench {

// Spellings of --dataset-name, such as vLLM's "custom" for jsonl, are made one. Error for a name that is none.
void declare_dataset_flags(CLI::App& app, DatasetOptions& options);
void settle_dataset_name(DatasetOptions& options);

void declare_arrival_flags(CLI::App& app, ArrivalOptions& options);

}  // namespace shoal::bench
