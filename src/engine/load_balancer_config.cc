// SPDX-License-Identifier: Apache-2.0
#include "engine/load_balancer_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/json_file.h"
#include "base/options.h"
#include "base/whole.h"
#include "parallel/balance.h"

namespace shoal {
namespace {

constexpr const char* kAssignments = "initial_global_assignments";
constexpr double kMostSlots = 1 << 20;
constexpr size_t kMostListed = 40;
constexpr size_t kNamed = 8;  // experts or layers listed in one problem

OptionTable scalar_options(LoadBalancerConfig& config) {
  std::vector<Option> rows;
  rows.push_back({.name = "num_slots",
                  .field = &config.num_slots,
                  .help = "slots of all expert-parallel ranks together",
                  .min = 1,
                  .max = kMostSlots});
  rows.push_back({.name = "layer_updates_per_iter",
                  .field = &config.layer_updates_per_iter,
                  .help = "layers placed anew in a step; 0 keeps the placement",
                  .min = 0,
                  .max = 1 << 20});
  rows.push_back({.name = "ep_size",
                  .field = &config.ep_size,
                  .help = "expert-parallel ranks that the assignments are for",
                  .min = 1,
                  .max = kMostSlots});
  rows.push_back({.name = "max_stall_ms",
                  .field = &config.max_stall_ms,
                  .help = "the most of a core, in milliseconds, that copies of experts take while a step runs",
                  .min = 0,
                  .max = 60000});
  return OptionTable(std::move(rows));
}

// The first few of a list as text: "3, 4, 5 and 7 more".
std::string named(const std::vector<int64_t>& numbers) {
  const size_t shown = std::min(numbers.size(), kNamed);
  std::string text =
      fmt::format("{}", fmt::join(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
  if (numbers.size() > shown) text += fmt::format(" and {} more", numbers.size() - shown);
  return text;
}

class Parser {
 public:
  Parser(std::string name, std::vector<std::string>& problems) : name_(std::move(name)), problems_(problems) {}

  LoadBalancerConfig parse(const YamlNode& root) {
    if (root.kind != YamlNode::Kind::kMap) {
      problem(fmt::format("{} must be a map of keys, such as num_slots: 288", name_));
      return {};
    }
    for (size_t i = 0; i < root.entries.size(); ++i) {
      if (given_again(root, i)) continue;
      read_entry(root.entries[i]);
    }
    check_lengths();
    return std::move(config_);
  }

 private:
  void problem(std::string text) {
    if (problems_.size() < kMostListed) problems_.push_back(std::move(text));
  }
  std::string at(int line) const { return fmt::format("{}:{}", name_, line); }

  // Of keys given twice the last counts.
  bool given_again(const YamlNode& map, size_t i) {
    const YamlEntry& entry = map.entries[i];
    const auto later = std::find_if(map.entries.begin() + static_cast<std::ptrdiff_t>(i) + 1, map.entries.end(),
                                    [&](const YamlEntry& other) { return other.key == entry.key; });
    if (later == map.entries.end()) return false;
    if (config_.notices.size() < kMostListed) {
      config_.notices.push_back(fmt::format("{}: {} is given on lines {} and {}; the last one counts", name_,
                                            printable(entry.key), entry.line, later->line));
    }
    return true;
  }

  void read_entry(const YamlEntry& entry) {
    if (entry.key == kAssignments) return read_assignments(entry);
    const OptionTable table = scalar_options(config_);
    const Option* option = table.find_path(entry.key);
    if (option == nullptr) {
      return problem(fmt::format("unknown key {} ({}); the nearest known is {}", printable(entry.key), at(entry.line),
                                 table.nearest_path(entry.key, {kAssignments})));
    }
    if (entry.value.kind == YamlNode::Kind::kNull) return;
    if (entry.value.kind != YamlNode::Kind::kScalar) {
      return problem(
          fmt::format("{} ({}) is a list or map, must be {}", entry.key, at(entry.line), rule_text(*option)));
    }
    if (auto wrong = assign(*option, entry.value.text, at(entry.line))) problem(std::move(*wrong));
  }

  void read_assignments(const YamlEntry& entry) {
    if (entry.value.empty()) return;
    if (entry.value.kind != YamlNode::Kind::kMap) {
      return problem(fmt::format("{} ({}) must be a map from layer to the list of its slots' experts", kAssignments,
                                 at(entry.line)));
    }
    for (size_t i = 0; i < entry.value.entries.size(); ++i) {
      if (!given_again(entry.value, i)) read_layer(entry.value.entries[i]);
    }
  }

  void read_layer(const YamlEntry& entry) {
    const std::optional<int64_t> layer = whole_number(entry.key);
    if (!layer || *layer < 0) {
      return problem(fmt::format("{}: layer '{}' ({}) must be a whole number of at least 0", kAssignments,
                                 printable(entry.key), at(entry.line)));
    }
    if (entry.value.kind != YamlNode::Kind::kList) {
      return problem(fmt::format("{}: layer {} ({}) must be a list, the expert of each slot", kAssignments, *layer,
                                 at(entry.line)));
    }
    std::vector<int32_t> experts;
    for (const YamlNode& item : entry.value.items) {
      const std::optional<int64_t> expert =
          item.kind == YamlNode::Kind::kScalar ? whole_number(item.text) : std::nullopt;
      if (!expert || *expert < -1 || *expert > std::numeric_limits<int32_t>::max()) {
        return problem(
            fmt::format("{}: layer {} ({}): slot {} must be the number of an expert, or -1 for an empty slot",
                        kAssignments, *layer, at(item.line), experts.size()));
      }
      experts.push_back(static_cast<int32_t>(*expert));
    }
    lines_[*layer] = entry.line;
    config_.initial_global_assignments[*layer] = std::move(experts);
  }

  void check_lengths() {
    if (!config_.num_slots) {
      if (!config_.initial_global_assignments.empty())
        problem(fmt::format("num_slots is missing in {}, must be the length of each list of {}", name_, kAssignments));
      return;
    }
    for (const auto& [layer, experts] : config_.initial_global_assignments) {
      if (static_cast<int64_t>(experts.size()) == *config_.num_slots) continue;
      problem(fmt::format("{}: layer {} ({}) lists {} slots, must be num_slots {}", kAssignments, layer,
                          at(lines_.at(layer)), experts.size(), *config_.num_slots));
    }
  }

  std::string name_;
  std::vector<std::string>& problems_;
  LoadBalancerConfig config_;
  std::map<int64_t, int> lines_;
};

// Experts that no slot holds, and slots that hold no expert of the model.
void add_assignment_problems(int64_t layer, const std::vector<int32_t>& assigned, int64_t experts,
                             std::vector<std::string>& problems) {
  std::vector<bool> held(experts);
  for (size_t slot = 0; slot < assigned.size(); ++slot) {
    const int32_t expert = assigned[slot];
    if (expert >= experts) {
      problems.push_back(
          fmt::format("{}: layer {}: slot {} holds expert {}, must be from 0 to {}, or -1 for an empty slot",
                      kAssignments, layer, slot, expert, experts - 1));
      return;
    }
    if (expert >= 0) held[expert] = true;
  }
  std::vector<int64_t> missing;
  for (int64_t expert = 0; expert < experts; ++expert) {
    if (!held[expert]) missing.push_back(expert);
  }
  if (missing.empty()) return;
  problems.push_back(fmt::format("{}: layer {}: no slot holds expert {}; each must have at least one", kAssignments,
                                 layer, named(missing)));
}

// A plan for some layers only is a plan for another model, or from a recording that ended too soon. Layers after the last are those of
// multi-token prediction, which plans of the reference hold.
void add_layer_problems(const LoadBalancerConfig& config, const MoeShape& shape, std::vector<std::string>& problems,
                        std::vector<std::string>& notices) {
  const auto& assignments = config.initial_global_assignments;
  if (assignments.empty()) return;
  std::vector<int64_t> dense, beyond, missing;
  for (const auto& [layer, assigned] : assignments) {
    if (!std::ranges::binary_search(shape.layers, layer))
      (layer < shape.model_layers ? dense : beyond).push_back(layer);
  }
  for (const int64_t layer : shape.layers) {
    if (!assignments.contains(layer)) missing.push_back(layer);
  }
  if (!dense.empty()) {
    problems.push_back(fmt::format("{}: layer {} has no experts in this model, must be from {} to {}", kAssignments,
                                   named(dense), shape.layers.front(), shape.layers.back()));
  }
  if (!missing.empty()) {
    problems.push_back(
        fmt::format("{}: layer {} is not listed; all {} layers with experts must be, or none, for the "
                    "default placement",
                    kAssignments, named(missing), shape.layers.size()));
  }
  if (!beyond.empty()) {
    notices.push_back(
        fmt::format("{}: layer {} is not used, the model has {}", kAssignments, named(beyond), shape.model_layers));
  }
}

}  // namespace

LoadBalancerConfig parse_load_balancer(const YamlNode& node, const std::string& name,
                                       std::vector<std::string>& problems) {
  return Parser(name, problems).parse(node);
}

LoadBalancerConfig read_load_balancer(const std::filesystem::path& path) {
  constexpr YamlLimits kLimits{.bytes = int64_t{64} << 20, .depth = 8};
  std::vector<std::string> found;
  LoadBalancerConfig config = parse_load_balancer(read_yaml_file(path, kLimits), path.string(), found);
  Problems problems;
  problems.append(found);
  problems.throw_if_any("the load balancer's file cannot be used");
  return config;
}

std::string load_balancer_yaml(const LoadBalancerConfig& config) {
  std::string text;
  if (config.ep_size) text += fmt::format("ep_size: {}\n", *config.ep_size);
  if (!config.initial_global_assignments.empty()) text += fmt::format("{}:\n", kAssignments);
  for (const auto& [layer, experts] : config.initial_global_assignments) {
    text += fmt::format("  {}: [{}]\n", layer, fmt::join(experts, ", "));
  }
  text += fmt::format("layer_updates_per_iter: {}\n", config.layer_updates_per_iter);
  if (config.max_stall_ms != LoadBalancerConfig{}.max_stall_ms)
    text += fmt::format("max_stall_ms: {}\n", config.max_stall_ms);
  if (config.num_slots) text += fmt::format("num_slots: {}\n", *config.num_slots);
  return text;
}

std::vector<std::string> load_balancer_problems(const LoadBalancerConfig& config, const MoeShape& shape,
                                                std::vector<std::string>& notices) {
  if (shape.layers.empty()) return {"load_balancer: this model has no experts to balance; leave the key out"};
  std::vector<std::string> problems;
  for (std::string& problem : slot_grid_problems(shape.experts, {.ep = shape.ep, .slots = slot_count(config, shape)}))
    problems.push_back("num_slots: " + problem);
  if (config.ep_size && *config.ep_size != shape.ep) {
    problems.push_back(fmt::format("ep_size is {}, must be moe_expert_parallel_size {}; generate the file for it",
                                   *config.ep_size, shape.ep));
  }
  for (const auto& [layer, assigned] : config.initial_global_assignments) {
    if (std::ranges::binary_search(shape.layers, layer) && problems.size() < kMostListed)
      add_assignment_problems(layer, assigned, shape.experts, problems);
  }
  add_layer_problems(config, shape, problems, notices);
  return problems;
}

int64_t slot_count(const LoadBalancerConfig& config, const MoeShape& shape) {
  return config.num_slots.value_or((shape.experts + shape.ep - 1) / shape.ep * shape.ep);
}

Placement initial_placement(const LoadBalancerConfig& config, int64_t layer, const MoeShape& shape) {
  const auto given = config.initial_global_assignments.find(layer);
  if (given == config.initial_global_assignments.end())
    return Placement::wrapped(shape.experts, slot_count(config, shape), shape.ep);
  std::vector<ExpertId> expert_of_slot;
  for (const int32_t expert : given->second) expert_of_slot.push_back({expert});
  return Placement(std::move(expert_of_slot), shape.experts, shape.ep);
}

}  // namespace shoal
