// SPDX-License-Identifier: Apache-2.0
// What ExpertMeter records, as statistics files. Not here: the files' format (expert_statistics.h), counting (expert_meter.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/expert_meter.h"
#include "engine/expert_statistics.h"
#include "model/spec.h"
#include "parallel/mesh.h"

namespace shoal {

// "100-200": steps 100 <= i < 200, the first being 0. Error names the value and the form.
struct StepRange {
  int64_t begin = 0;
  int64_t end = 0;
};
StepRange parse_step_range(const std::string& text);

StatisticsMeta statistics_meta(const ModelSpec& spec);

// One file for each EP rank: picks of the tokens whose home it is, and one of these tokens' selections where the ranks kept them. `replicas`:
// what each recorded; equal steps are put together. Every step and layer in every file. Returns the number of steps; with none, no file is
// written.
int64_t write_recorded(const std::filesystem::path& directory, const ModelSpec& spec, const Mesh& mesh,
                       const std::vector<std::vector<ExpertMeter::Counts>>& replicas);

}  // namespace shoal
