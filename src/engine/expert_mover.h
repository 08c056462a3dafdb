// SPDX-License-Identifier: Apache-2.0
// ExpertMover: brings the layers of one replica to placements that are asked for, while steps run. Each step it says which layers flip and
// which copies go on (model/expert_moves.h); copies go into room that no rank reads, and a layer flips when all of its copies are there.
// Invariants: every rank's slots always hold what the layer's placement says, before, during and after a move, whichever copies fail; room
// and slots together are always the same memory; nothing waits. Used by one thread, the replica's; the copying thread touches only copies.
// Not here: which placement is good (expert_balancer.h asks parallel/replan.h), how many bytes a step copies (model/expert_moves.h).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "model/expert_moves.h"
#include "parallel/mesh.h"

namespace shoal {

// What the slots of one replica hold, and the room beside them. `rank`: of the replica.
struct ExpertShelf {
  struct Layer {
    std::shared_ptr<const Placement> placement;
    std::map<int, std::vector<ExpertWeights>> slots;  // rank of the layer's stage -> by local slot
  };
  std::map<int64_t, Layer> layers;
  std::map<int, std::vector<ExpertWeights>> room;  // by rank
};

struct MoveCounts {
  int64_t layers = 0;  // flips
  int64_t given_up = 0;
  int64_t copies = 0;  // of flips: slots filled from another rank, each slice of an expert counted
  int64_t bytes = 0;
};

class ExpertMover {
 public:
  // `layers`: that move at a time, and so that flip in a step at most.
  ExpertMover(const Mesh& mesh, ExpertShelf shelf, int64_t layers);

  // Replaces an earlier wish for the layer that has not begun.
  void request(int64_t layer, Placement target);
  // What the next step does; null: nothing. Steps must run in the order of the calls.
  std::shared_ptr<const ExpertStep> next();

  const Placement& placement(int64_t layer) const { return *shelf_.layers.at(layer).placement; }
  bool moving(int64_t layer) const;  // begun, or asked for
  const MoveCounts& counts() const { return counts_; }
  const ExpertShelf& shelf() const { return shelf_; }

 private:
  struct Change {
    int rank = 0;
    LayerFlip::Change flip;
  };
  struct Move {
    int64_t layer = 0;
    std::shared_ptr<const Placement> target;
    std::vector<Change> changes;
    std::vector<std::pair<int, ExpertWeights>> freed;                 // by the flip
    std::vector<std::pair<int, std::shared_ptr<ExpertCopy>>> copies;  // by receiving rank
    std::shared_ptr<std::atomic<bool>> abandoned = std::make_shared<std::atomic<bool>>(false);
  };

  bool begin(int64_t layer, const Placement& target);
  bool plan_rank(Move& move, int rank);
  bool take_room(int rank, const ExpertWeights& like, ExpertWeights& room);
  const ExpertWeights& source(const Move& move, int rank, ExpertId expert) const;
  void flip(Move& move, ExpertStep& step);
  void give_back(const Move& move);

  Mesh mesh_;
  ExpertShelf shelf_;
  int64_t layers_;
  std::map<int64_t, Placement> wishes_;
  std::deque<int64_t> order_;  // of the wishes
  std::vector<Move> moves_;
  MoveCounts counts_;
};

}  // namespace shoal
