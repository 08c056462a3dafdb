// SPDX-License-Identifier: Apache-2.0
#include "engine/expert_recording.h"

#include <functional>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json_file.h"
#include "base/whole.h"

namespace shoal {
namespace {

using StepLayer = std::pair<int64_t, int64_t>;  // (step, layer)
using Recorded = std::map<StepLayer, std::vector<int64_t>>;

void add_counts(const ExpertMeter::Counts& step, int64_t home, Recorded& sums) {
  for (const auto& [layer, counts] : step.by_home[home]) {
    std::vector<int64_t>& sum = sums[{step.step, layer}];
    sum.resize(counts.size());
    for (size_t i = 0; i < counts.size(); ++i) sum[i] += counts[i];
  }
}

void add_selections(const ExpertMeter::Counts& step, const Mesh& mesh, std::vector<Recorded>& by_home) {
  for (const auto& [layer, by_rank] : step.selections) {
    for (const auto& [rank, experts] : by_rank) {
      std::vector<int64_t>& all = by_home[mesh.at(rank).moe_ep][{step.step, layer}];
      all.insert(all.end(), experts.begin(), experts.end());
    }
  }
}

// For each key, also where nothing was recorded.
std::vector<StatisticsTensor> tensors_of(const Recorded& recorded, const std::set<StepLayer>& keys,
                                         const std::function<void(StatisticsTensor&)>& shape) {
  std::vector<StatisticsTensor> tensors;
  for (const StepLayer& key : keys) {
    const auto found = recorded.find(key);
    StatisticsTensor tensor{.iteration = key.first, .layer = key.second, .shape = {}, .values = {}};
    if (found != recorded.end()) tensor.values = found->second;
    shape(tensor);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace

StepRange parse_step_range(const std::string& text) {
  const size_t dash = text.find('-');
  if (dash != std::string::npos) {
    const auto begin = whole_number(std::string_view(text).substr(0, dash));
    const auto end = whole_number(std::string_view(text).substr(dash + 1));
    if (begin && end && *begin < *end) return {*begin, *end};
  }
  throw Error(ErrorKind::kInvalid, "'" + printable(text) +
                                       "' is no range of steps; write START-STOP, the first below the second, such as "
                                       "100-200 for steps 100 to 199");
}

StatisticsMeta statistics_meta(const ModelSpec& spec) {
  for (const DecoderLayer& layer : spec.layers)
    if (layer.moe) return {.num_experts = layer.moe->experts, .num_experts_per_token = layer.moe->top_k};
  return {};
}

int64_t write_recorded(const std::filesystem::path& directory, const ModelSpec& spec, const Mesh& mesh,
                       const std::vector<std::vector<ExpertMeter::Counts>>& replicas) {
  const int64_t ep = mesh.sizes().moe_expert;
  std::vector<Recorded> counts(ep), selections(ep);
  std::set<StepLayer> keys;
  bool selected = false;
  for (const auto& replica : replicas) {
    for (const ExpertMeter::Counts& step : replica) {
      for (int64_t home = 0; home < ep; ++home) add_counts(step, home, counts[home]);
      add_selections(step, mesh, selections);
      selected = selected || !step.selections.empty();
      for (const auto& by_layer : step.by_home)
        for (const auto& [layer, ignored] : by_layer) keys.insert({step.step, layer});
    }
  }
  if (keys.empty()) return 0;
  const StatisticsMeta meta = statistics_meta(spec);
  start_statistics(directory, meta, ep);
  for (int64_t home = 0; home < ep; ++home) {
    write_statistics(directory, StatisticsFile::kCounts, home, tensors_of(counts[home], keys, [&](auto& tensor) {
                       tensor.values.resize(meta.num_experts);
                       tensor.shape = {meta.num_experts};
                     }));
    if (!selected) continue;
    write_statistics(
        directory, StatisticsFile::kTokenSelections, home, tensors_of(selections[home], keys, [&](auto& tensor) {
          tensor.shape = {std::ssize(tensor.values) / meta.num_experts_per_token, meta.num_experts_per_token};
        }));
  }
  std::set<int64_t> steps;
  for (const auto& [step, layer] : keys) steps.insert(step);
  return std::ssize(steps);
}

}  // namespace shoal
