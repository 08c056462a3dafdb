// SPDX-License-Identifier: Apache-2.0
#include "parallel/mesh.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/error.h"

namespace shoal {
namespace {

// Sizes by the names that users write.
std::array<std::pair<const char*, int>, 7> named(const GridSizes& sizes) {
  return {{{"data_parallel_size", sizes.data},
           {"pipeline_parallel_size", sizes.pipeline},
           {"context_parallel_size", sizes.context},
           {"tensor_parallel_size", sizes.tensor},
           {"attention_dp_size", sizes.attention_data},
           {"moe_tensor_parallel_size", sizes.moe_tensor},
           {"moe_expert_parallel_size", sizes.moe_expert}}};
}

bool in_bounds(int size) { return size >= 1 && size <= kMaxRanks; }

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " or ") + word;
  return text;
}

std::string attention_problem(const GridSizes& sizes) {
  std::vector<std::string> values;
  for (const int64_t d : nearest_divisors(sizes.tensor, sizes.attention_data)) values.push_back(std::to_string(d));
  return "attention_dp_size is " + std::to_string(sizes.attention_data) + ", must divide tensor_parallel_size " +
         std::to_string(sizes.tensor) + "; nearest: " + joined(values);
}

// Pairs whose product is `moe_world`, the ones nearest to the given pair in ratio first, two at most.
std::vector<std::string> nearest_moe_pairs(const GridSizes& sizes, int64_t moe_world) {
  std::vector<std::pair<int64_t, int64_t>> pairs;
  for (const int64_t ep : nearest_divisors(moe_world, sizes.moe_expert)) pairs.emplace_back(moe_world / ep, ep);
  for (const int64_t tp : nearest_divisors(moe_world, sizes.moe_tensor)) pairs.emplace_back(tp, moe_world / tp);
  const auto distance = [&](const std::pair<int64_t, int64_t>& pair) {
    return std::abs(std::log(static_cast<double>(pair.first) / sizes.moe_tensor)) +
           std::abs(std::log(static_cast<double>(pair.second) / sizes.moe_expert));
  };
  std::sort(pairs.begin(), pairs.end());
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
  std::stable_sort(pairs.begin(), pairs.end(), [&](auto& a, auto& b) { return distance(a) < distance(b); });
  pairs.resize(std::min<size_t>(pairs.size(), 2));
  std::vector<std::string> texts;
  for (const auto& [tp, ep] : pairs) texts.push_back(std::to_string(tp) + " * " + std::to_string(ep));
  return texts;
}

std::string moe_problem(const GridSizes& sizes) {
  const int64_t moe_world = int64_t{sizes.tensor} * sizes.context;
  const int64_t product = int64_t{sizes.moe_tensor} * sizes.moe_expert;
  std::string rule = "tensor_parallel_size " + std::to_string(sizes.tensor);
  if (sizes.context > 1) {
    rule += " * context_parallel_size " + std::to_string(sizes.context) + " = " + std::to_string(moe_world);
  }
  return "moe_tensor_parallel_size " + std::to_string(sizes.moe_tensor) + " * moe_expert_parallel_size " +
         std::to_string(sizes.moe_expert) + " = " + std::to_string(product) + ", must equal " + rule +
         "; nearest: " + joined(nearest_moe_pairs(sizes, moe_world));
}

// The product over the axes, saturated just above the bound.
int64_t saturated_world(const GridSizes& sizes) {
  int64_t world = 1;
  for (const int size : {sizes.data, sizes.pipeline, sizes.context, sizes.tensor}) {
    world = std::min<int64_t>(world * size, int64_t{kMaxRanks} * kMaxRanks);
  }
  return world;
}

}  // namespace

std::vector<int64_t> nearest_divisors(int64_t n, int64_t value) {
  CHECK_GE(n, 1);
  const auto divides = [&](int64_t d) { return n % d == 0; };
  int64_t below = std::clamp<int64_t>(value, 1, n);
  int64_t above = below;
  while (!divides(below)) --below;
  while (!divides(above)) ++above;
  if (below == above) return {below};
  return {below, above};
}

std::vector<std::string> grid_problems(const GridSizes& sizes) {
  std::vector<std::string> problems;
  for (const auto& [name, size] : named(sizes)) {
    if (in_bounds(size)) continue;
    problems.push_back(std::string(name) + " is " + std::to_string(size) + ", must be from 1 to " +
                       std::to_string(kMaxRanks) + "; nearest: " + std::to_string(size < 1 ? 1 : kMaxRanks));
  }
  const bool world_known =
      in_bounds(sizes.data) && in_bounds(sizes.pipeline) && in_bounds(sizes.context) && in_bounds(sizes.tensor);
  if (world_known && saturated_world(sizes) > kMaxRanks) {
    problems.push_back("data_parallel_size " + std::to_string(sizes.data) + " * pipeline_parallel_size " +
                       std::to_string(sizes.pipeline) + " * context_parallel_size " + std::to_string(sizes.context) +
                       " * tensor_parallel_size " + std::to_string(sizes.tensor) + " must be at most " +
                       std::to_string(kMaxRanks) + " ranks; make one of them smaller");
  }
  if (in_bounds(sizes.tensor) && in_bounds(sizes.attention_data) && sizes.tensor % sizes.attention_data != 0) {
    problems.push_back(attention_problem(sizes));
  }
  const bool moe_known =
      in_bounds(sizes.tensor) && in_bounds(sizes.context) && in_bounds(sizes.moe_tensor) && in_bounds(sizes.moe_expert);
  if (moe_known && int64_t{sizes.moe_tensor} * sizes.moe_expert != int64_t{sizes.tensor} * sizes.context) {
    problems.push_back(moe_problem(sizes));
  }
  return problems;
}

Mesh::Mesh(const GridSizes& sizes) : sizes_(sizes) {
  const std::vector<std::string> problems = grid_problems(sizes);
  if (!problems.empty()) check_failed(__FILE__, __LINE__, "mesh of unchecked sizes: " + problems.front());
}

Coordinates Mesh::at(int rank) const {
  CHECK(0 <= rank && rank < world_size());
  const int r = rank % stage_size();
  const int tp = r / sizes_.context;
  return {.dp = rank / replica_size(),
          .pp = rank % replica_size() / stage_size(),
          .cp = r % sizes_.context,
          .tp = tp,
          .attn_dp = tp / attn_tp_size(),
          .attn_tp = tp % attn_tp_size(),
          .moe_tp = r / sizes_.moe_expert,
          .moe_ep = r % sizes_.moe_expert};
}

GroupPlace Mesh::place(Axis axis, int rank) const {
  const Coordinates at = this->at(rank);
  switch (axis) {
    case Axis::kAttn:
    case Axis::kFfnTp:
      // Under attention DP the ranks of other groups hold other tokens; context ranks are used like tensor ranks.
      return {at.attn_tp * sizes_.context + at.cp, attn_tp_size() * sizes_.context};
    case Axis::kAttnTp:
      return {at.attn_tp, attn_tp_size()};
    case Axis::kCp:
      return {at.cp, sizes_.context};
    case Axis::kMoe:
    case Axis::kStage:
      return {rank % stage_size(), stage_size()};
    case Axis::kMoeTp:
      return {at.moe_tp, sizes_.moe_tensor};
    case Axis::kMoeEp:
      return {at.moe_ep, sizes_.moe_expert};
    case Axis::kPp:
      return {at.pp, sizes_.pipeline};
  }
  return {};
}

std::vector<int> Mesh::group(Axis axis, int rank) const {
  const GroupPlace place = this->place(axis, rank);
  // The ranks of every group are evenly spaced.
  int stride = 1;
  if (axis == Axis::kAttnTp) stride = sizes_.context;
  if (axis == Axis::kMoeTp) stride = sizes_.moe_expert;
  if (axis == Axis::kPp) stride = stage_size();
  std::vector<int> ranks;
  for (int i = 0; i < place.size; ++i) ranks.push_back(rank + (i - place.index) * stride);
  return ranks;
}

}  // namespace shoal
