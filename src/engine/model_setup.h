// SPDX-License-Identifier: Apache-2.0
// ModelSetup: what follows from a model directory and a config before any rank exists: spec, mesh, options, and every problem
// that can be known without reading weights. Used by the engine and by `shoal explain`.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine_config.h"
#include "engine/machine.h"
#include "model/checkpoint.h"
#include "model/model.h"
#include "model/step_memory.h"
#include "parallel/mesh.h"

namespace shoal {

struct ModelSetup {
  std::filesystem::path model_dir;
  EngineConfig config;
  ModelSpec spec;
  Mesh mesh{GridSizes{}};
  ModelOptions options;
  std::unique_ptr<Checkpoint> checkpoint;  // null for load_format: dummy, and when only explaining
  std::vector<std::string> notices;
};

enum class SetupFor : uint8_t {
  kRunning,     // weights must be there and be right
  kExplaining,  // config.json is enough
};

// Throws Error with all problems at once.
ModelSetup set_up_model(const std::filesystem::path& model_dir, const EngineConfig& config, SetupFor purpose);

// Compute threads of each rank: as configured, or the machine's cores divided by the ranks.
int threads_per_rank(const EngineConfig& config, const Machine& machine);

// The longest step that the scheduler will make.
StepSize longest_step(const ModelSetup& setup);
// Logits rows of prompts that are scored, in one step of an attention-DP group.
int64_t most_score_rows(const ModelSetup& setup);
// Fills in what the plan of a rank says about memory; `backend` is the rank's.
void plan_memory(const ModelSetup& setup, int rank, const BackendOptions& backend, RankPlan& plan);

// What every rank would hold, computed on this thread, without memory for weights.
std::vector<RankPlan> plan_ranks(const ModelSetup& setup, int threads);

}  // namespace shoal
