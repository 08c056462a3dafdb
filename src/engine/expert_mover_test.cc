// SPDX-License-Identifier: Apache-2.0
// Experts move between slots of all ranks while "steps" run: whatever is asked for, whichever copies fail or stay unfinished, every slot
// holds what its layer's placement says, and no memory is lost or shared.
#include "engine/expert_mover.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "backend/factory.h"

namespace shoal {
namespace {

constexpr int64_t kHidden = 8, kFfn = 4;

// A grid of ranks whose slots hold matrices that know their layer, expert and slice.
class Ranks {
 public:
  Ranks(const GridSizes& sizes, int64_t layers, int64_t experts, int64_t slots)
      : mesh(sizes), backend(make_backend({.device = "cpu", .isa = "plain", .threads = 1, .cores = {}})) {
    const int64_t layers_of_stage = (layers + sizes.pipeline - 1) / sizes.pipeline;
    for (int64_t layer = 0; layer < layers; ++layer) {
      ExpertShelf::Layer& held = shelf.layers[layer];
      held.placement = std::make_shared<const Placement>(Placement::wrapped(experts, slots, sizes.moe_expert));
      for (int rank = 0; rank < mesh.replica_size(); ++rank) {
        if (mesh.at(rank).pp != layer / layers_of_stage) continue;
        for (const ExpertId expert : held.placement->on_rank(mesh.at(rank).moe_ep))
          held.slots[rank].push_back(filled(mark(layer, expert, rank)));
      }
    }
    for (int rank = 0; rank < mesh.replica_size(); ++rank)
      for (int64_t i = 0; i < slots / sizes.moe_expert; ++i) shelf.room[rank].push_back(filled(-1));
    tables = shelf.layers;
  }

  float mark(int64_t layer, ExpertId expert, int rank) const {
    return static_cast<float>(layer * 10000 + expert.value * 10 + mesh.at(rank).moe_tp);
  }
  ExpertWeights filled(float value) const {
    ExpertWeights weights{
        backend->new_matrix({.out = 2 * kFfn, .in = kHidden, .kind = MatrixKind::kGateUp, .dtype = DType::kF32}),
        backend->new_matrix({.out = kHidden, .in = kFfn, .dtype = DType::kF32}),
        backend->from_host(std::vector<float>(2 * kFfn, value), {2 * kFfn})};
    backend->fill_rows(weights.gate_up, 0, 2 * kFfn, std::vector<float>(2 * kFfn * kHidden, value));
    backend->fill_rows(weights.down, 0, kHidden, std::vector<float>(kHidden * kFfn, value));
    return weights;
  }
  bool holds(const ExpertWeights& weights, float value) const {
    const Tensor one = backend->from_host(std::vector<float>(kFfn, 1.0f), {1, kFfn});
    const std::vector<float> sums = backend->to_host(backend->matmul(one, weights.down, Tensor()));
    const std::vector<float> bias = backend->to_host(weights.gate_up_bias);
    const auto all = [&](const std::vector<float>& values, float expected) {
      return std::ranges::all_of(values, [&](float x) { return x == expected; });
    };
    const Tensor row = backend->from_host(std::vector<float>(kHidden, 1.0f), {1, kHidden});
    const float gate = kHidden * value, act = gate / (1.0f + std::exp(-gate)) * gate;
    const std::vector<float> gated = backend->to_host(backend->gate_up(row, weights.gate_up, GateSpec()));
    const auto near = [&](float x) { return std::fabs(x - act) <= 1e-5f * std::fabs(act); };
    return all(sums, kFfn * value) && all(bias, value) && std::ranges::all_of(gated, near);
  }

  // What is done with a step: flips before it, copies after it.
  void run(const ExpertStep& step, const std::function<bool(ExpertCopy&)>& copy) {
    for (const LayerFlip& flip : step.flips) {
      tables[flip.layer].placement = flip.placement;
      for (auto& [rank, slots] : tables[flip.layer].slots)
        for (const LayerFlip::Change& change : flip.changes[rank]) slots[change.local_slot] = change.weights;
    }
    for (const auto& one : step.copies)
      if (copy(*one)) run_copies(std::array{one}, {}, *backend, stopping);
  }

  // Tables of the ranks hold what the placement says.
  std::string wrong() const {
    for (const auto& [layer, table] : tables) {
      for (const auto& [rank, slots] : table.slots) {
        const std::vector<ExpertId> experts = table.placement->on_rank(mesh.at(rank).moe_ep);
        for (size_t slot = 0; slot < slots.size(); ++slot) {
          if (slots[slot].defined() != (experts[slot] != kNoExpert)) return "slot defined or not";
          if (slots[slot].defined() && !holds(slots[slot], mark(layer, experts[slot], rank)))
            return "layer " + std::to_string(layer) + " rank " + std::to_string(rank) + " slot " + std::to_string(slot);
        }
      }
    }
    return {};
  }

  Mesh mesh;
  std::unique_ptr<Backend> backend;
  ExpertShelf shelf;
  std::map<int64_t, ExpertShelf::Layer> tables;  // as the ranks have them
  std::atomic<bool> stopping = false;
};

// Every matrix of slots and room, by rank.
std::map<int, std::multiset<uintptr_t>> memory(const ExpertShelf& shelf) {
  std::map<int, std::multiset<uintptr_t>> result;
  for (const auto& [rank, room] : shelf.room)
    for (const ExpertWeights& weights : room)
      result[rank].insert(reinterpret_cast<uintptr_t>(weights.gate_up.storage()));
  for (const auto& [layer, held] : shelf.layers)
    for (const auto& [rank, slots] : held.slots)
      for (const ExpertWeights& weights : slots)
        if (weights.defined()) result[rank].insert(reinterpret_cast<uintptr_t>(weights.gate_up.storage()));
  return result;
}

Placement random_placement(int64_t experts, int64_t slots, int64_t ep) {
  std::vector<ExpertId> values;
  for (int32_t expert = 0; expert < experts; ++expert) values.push_back({expert});
  while (std::ssize(values) < slots) values.push_back({*rc::gen::inRange<int32_t>(-1, static_cast<int32_t>(experts))});
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[*rc::gen::inRange<size_t>(0, i)]);
  return Placement(std::move(values), experts, ep);
}

struct Grid {
  GridSizes sizes;
  int64_t layers = 1;
  int64_t experts = 1;
  int64_t slots = 1;
};

Grid random_grid() {
  Grid grid;
  grid.sizes.pipeline = *rc::gen::inRange(1, 3);
  grid.sizes.moe_expert = *rc::gen::element(1, 2, 4);
  grid.sizes.moe_tensor = *rc::gen::inRange(1, 3);
  grid.sizes.tensor = grid.sizes.moe_expert * grid.sizes.moe_tensor;
  grid.layers = *rc::gen::inRange(grid.sizes.pipeline, 4);
  grid.experts = *rc::gen::inRange(1, 9);
  const int64_t ep = grid.sizes.moe_expert;
  grid.slots = ((grid.experts + ep - 1) / ep + *rc::gen::inRange(0, 3)) * ep;
  return grid;
}

RC_GTEST_PROP(ExpertMover, NothingIsLostWhateverFails, ()) {
  const Grid grid = random_grid();
  Ranks ranks(grid.sizes, grid.layers, grid.experts, grid.slots);
  const auto before = memory(ranks.shelf);
  ExpertMover mover(ranks.mesh, ranks.shelf, *rc::gen::inRange(1, 3));
  const int steps = *rc::gen::inRange(1, 30);
  for (int i = 0; i < steps; ++i) {
    if (*rc::gen::inRange(0, 2) == 0)
      mover.request(*rc::gen::inRange<int64_t>(0, grid.layers),
                    random_placement(grid.experts, grid.slots, grid.sizes.moe_expert));
    const auto step = mover.next();
    if (!step) continue;
    ranks.run(*step, [&](ExpertCopy& copy) {
      const int fate = *rc::gen::inRange(0, 8);
      if (fate == 0) *copy.abandoned = true;  // as if a piece had thrown
      return fate < 6;                        // else it goes on with a later step
    });
    RC_ASSERT(ranks.wrong() == "");
  }
  // Once nothing fails any more, every wish comes true.
  for (int i = 0; i < 100; ++i) {
    const auto step = mover.next();
    if (step) ranks.run(*step, [](ExpertCopy&) { return true; });
  }
  for (int64_t layer = 0; layer < grid.layers; ++layer) {
    RC_ASSERT(!mover.moving(layer));
    RC_ASSERT(mover.placement(layer) == *ranks.tables.at(layer).placement);
  }
  RC_ASSERT(ranks.wrong() == "");
  // Room and slots together are what they were, but for slots that became or stopped being empty.
  auto after = memory(mover.shelf());
  for (const auto& [rank, all] : after) RC_ASSERT(std::set(all.begin(), all.end()).size() == all.size());
  RC_ASSERT(after == before);
}

TEST(ExpertMover, OnlyWhatARankLacksIsCopied) {
  Ranks ranks({.tensor = 2, .moe_expert = 2}, 1, 4, 4);
  ExpertMover mover(ranks.mesh, ranks.shelf, 1);
  mover.request(0, Placement({{1}, {0}, {3}, {2}}, 4, 2));  // each rank keeps its own, in other slots
  const auto flip = mover.next();
  EXPECT_EQ(flip, nullptr);  // nothing to copy: it flips with the next step
  const auto step = mover.next();
  ASSERT_NE(step, nullptr);
  EXPECT_EQ(step->flips.size(), 1u);
  EXPECT_TRUE(step->copies.empty());
  ranks.run(*step, [](ExpertCopy&) { return true; });
  EXPECT_EQ(ranks.wrong(), "");
  EXPECT_EQ(mover.counts().copies, 0);
}

TEST(ExpertMover, AFailedCopyLeavesTheLayerAsItIs) {
  Ranks ranks({.tensor = 2, .moe_expert = 2}, 1, 4, 4);
  ExpertMover mover(ranks.mesh, ranks.shelf, 1);
  const Placement target({{0}, {2}, {1}, {3}}, 4, 2);
  mover.request(0, target);
  ranks.run(*mover.next(), [](ExpertCopy& copy) {
    *copy.abandoned = true;
    return true;
  });
  EXPECT_EQ(mover.next(), nullptr);
  EXPECT_FALSE(mover.moving(0));
  EXPECT_EQ(mover.counts().given_up, 1);
  EXPECT_EQ(mover.placement(0), Placement::wrapped(4, 4, 2));
  mover.request(0, target);
  ranks.run(*mover.next(), [](ExpertCopy&) { return true; });
  ranks.run(*mover.next(), [](ExpertCopy&) { return true; });
  EXPECT_EQ(mover.placement(0), target);
  EXPECT_EQ(ranks.wrong(), "");
  EXPECT_EQ(mover.counts().copies, 2);
}

TEST(ExpertMover, AsManyLayersAtATimeAsAllowed) {
  Ranks ranks({.tensor = 2, .moe_expert = 2}, 4, 4, 4);
  ExpertMover mover(ranks.mesh, ranks.shelf, 2);
  for (int64_t layer = 0; layer < 4; ++layer) mover.request(layer, Placement({{0}, {2}, {1}, {3}}, 4, 2));
  size_t flips = 0;
  for (int i = 0; i < 6; ++i) {
    const auto step = mover.next();
    if (!step) break;
    EXPECT_LE(step->flips.size(), 2u);
    flips += step->flips.size();
    ranks.run(*step, [](ExpertCopy&) { return true; });
  }
  EXPECT_EQ(flips, 4u);
}

// run_copies keeps its limits, makes headway, and goes on where it stopped.
TEST(ExpertCopies, GoOnWhereTheyStopped) {
  const auto backend = make_backend({.device = "cpu", .isa = "plain", .threads = 1, .cores = {}});
  const auto matrix = [&](float value) {
    const Matrix result = backend->new_matrix({.out = 512, .in = 512, .dtype = DType::kF32});  // 1 MiB
    backend->fill_rows(result, 0, 512, std::vector<float>(512 * 512, value));
    return result;
  };
  const auto copy = std::make_shared<ExpertCopy>();
  copy->from = {matrix(3.0f), matrix(4.0f), Tensor()};
  copy->to = {matrix(0.0f), matrix(0.0f), Tensor()};
  copy->abandoned = std::make_shared<std::atomic<bool>>(false);
  std::atomic<bool> stopping = false;
  int64_t bytes = 0;
  int calls = 0;
  for (; copy->state == ExpertCopy::State::kCopying; ++calls) {
    const CopyReport report = run_copies(std::array{copy}, {.seconds = 10, .bytes = 300 << 10}, *backend, stopping);
    EXPECT_LE(report.bytes, (300 << 10) + (128 << 10));
    bytes += report.bytes;
    ASSERT_LT(calls, 20);
  }
  EXPECT_EQ(bytes, 2 << 20);
  EXPECT_GE(calls, 5);
  const Tensor one = backend->from_host(std::vector<float>(512, 1.0f), {1, 512});
  EXPECT_EQ(backend->to_host(backend->matmul(one, copy->to.gate_up, Tensor()))[511], 512 * 3.0f);
  EXPECT_EQ(backend->to_host(backend->matmul(one, copy->to.down, Tensor()))[0], 512 * 4.0f);
  // Without time there is still some headway.
  const auto slow = std::make_shared<ExpertCopy>();
  slow->from = copy->from;
  slow->to = copy->to;
  slow->abandoned = copy->abandoned;
  EXPECT_GT(run_copies(std::array{slow}, {.seconds = 0, .bytes = 1}, *backend, stopping).bytes, 0);
  // Told to stop, it does so after a piece.
  stopping = true;
  const int64_t before = slow->copied_bytes;
  EXPECT_LE(run_copies(std::array{slow}, {.seconds = 10, .bytes = 2 << 20}, *backend, stopping).bytes, 128 << 10);
  EXPECT_GT(slow->copied_bytes, before);
  EXPECT_EQ(slow->state, ExpertCopy::State::kCopying);
}

}  // namespace
}  // namespace shoal
