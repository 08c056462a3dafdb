// SPDX-License-Identifier: Apache-2.0
#include "engine/expert_recording.h"

#include <map>

#include "base/error.h"
#include "base/json_file.h"
#include "base/whole.h"

namespace shoal {
namespace {

using Sums = std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>>;  // (step, layer) -> by expert

void add(Sums& sums, int64_t step, const std::map<int64_t, std::vector<int64_t>>& by_layer) {
  for (const auto& [layer, counts] : by_layer) {
    std::vector<int64_t>& sum = sums[{step, layer}];
    sum.resize(counts.size());
    for (size_t i = 0; i < counts.size(); ++i) sum[i] += counts[i];
  }
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

int64_t write_recorded(const std::filesystem::path& directory, const ModelSpec& spec, int64_t ep,
                       const std::vector<std::vector<ExpertMeter::Counts>>& replicas) {
  std::vector<Sums> by_home(ep);
  Sums all;  // which steps and layers there are
  for (const auto& replica : replicas) {
    for (const ExpertMeter::Counts& counts : replica) {
      for (int64_t home = 0; home < ep; ++home) {
        add(by_home[home], counts.step, counts.by_home[home]);
        add(all, counts.step, counts.by_home[home]);
      }
    }
  }
  if (all.empty()) return 0;
  const StatisticsMeta meta = statistics_meta(spec);
  start_statistics(directory, meta, ep);
  int64_t steps = 0, last = -1;
  for (const auto& [key, counts] : all) steps += std::exchange(last, key.first) != key.first;
  for (int64_t home = 0; home < ep; ++home) {
    std::vector<StatisticsTensor> tensors;
    for (const auto& [key, counts] : all) {
      StatisticsTensor& tensor = tensors.emplace_back(
          StatisticsTensor{.iteration = key.first, .layer = key.second, .shape = {meta.num_experts}, .values = {}});
      const auto own = by_home[home].find(key);
      if (own != by_home[home].end()) tensor.values = own->second;
      tensor.values.resize(meta.num_experts);
    }
    write_statistics(directory, StatisticsFile::kCounts, home, tensors);
  }
  return steps;
}

}  // namespace shoal
