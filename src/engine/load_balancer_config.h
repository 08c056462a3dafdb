// SPDX-License-Identifier: Apache-2.0
// LoadBalancerConfig: how a run gives experts to slots: moe_load_balancer.yaml, or the same keys inline, in TensorRT-LLM's format.
// Not here: planning (parallel/balance.h), and where a configuration names the file (engine_config.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/yaml.h"
#include "parallel/placement.h"

namespace shoal {

struct LoadBalancerConfig {
  std::optional<int64_t> num_slots = {};  // of all ranks together; absent: the least that holds every expert
  // Of a layer: the expert of each slot, -1 for an empty slot. All layers with experts, or none: then each gets the default placement.
  std::map<int64_t, std::vector<int32_t>> initial_global_assignments = {};
  int64_t layer_updates_per_iter = 0;   // 0: the placement stays; more: so many layers may be placed anew in a step
  std::optional<int64_t> ep_size = {};  // for how many ranks the assignments were made
  double max_stall_ms = 1;              // the most of a core that copies of experts take while a step runs
  // Keys given twice; the caller shows them.
  std::vector<std::string> notices = {};
};

// Error with every problem of the file: keys not known, values out of bounds, assignments that are no lists of numbers or not num_slots long.
LoadBalancerConfig read_load_balancer(const std::filesystem::path& path);
// From a map within another file, `name` in errors. Adds what is wrong to `problems`.
LoadBalancerConfig parse_load_balancer(const YamlNode& node, const std::string& name,
                                       std::vector<std::string>& problems);

// As the reference writes it: keys in order, lists in one line. Keys at their defaults that the reference lacks are left out.
std::string load_balancer_yaml(const LoadBalancerConfig& config);

// What does not fit a model and its layout, all of it: each names value, rule and remedy.
struct MoeShape {
  int64_t experts = 0;
  int64_t ep = 1;
  std::vector<int64_t> layers;  // those with experts, ascending
  int64_t model_layers = 0;     // all
};
// `notices`: what is left out on purpose.
std::vector<std::string> load_balancer_problems(const LoadBalancerConfig& config, const MoeShape& shape,
                                                std::vector<std::string>& notices);

// Slots of all ranks together; the config must fit.
int64_t slot_count(const LoadBalancerConfig& config, const MoeShape& shape);
// The config's placement of a layer, else Placement::wrapped. The config must fit.
Placement initial_placement(const LoadBalancerConfig& config, int64_t layer, const MoeShape& shape);

}  // namespace shoal
