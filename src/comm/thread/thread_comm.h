// SPDX-License-Identifier: Apache-2.0
// ThreadComm: Comm between threads of one process, over shared memory. A collective is: post what this rank gives; wait until all have
// posted; check that all called the same; read the others' memory. Contributions up to kStagingBytes are posted as copies; with larger
// ones ("direct": the caller's own memory) everyone also waits until all have read, so the caller may then reuse it.
// Not here: the waits themselves (waiter.h); made by ThreadWorld::group.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/comm.h"
#include "comm/thread/waiter.h"

namespace shoal {

class ThreadComm final : public Comm {
 public:
  ThreadComm(std::shared_ptr<WorldState> world, GroupState& group, int rank);
  ~ThreadComm() override;

  const std::string& name() const override { return group_.name(); }
  int rank() const override { return rank_; }
  int size() const override { return group_.size(); }

  void all_reduce(std::span<const Tensor> tensors) override;
  void all_gather(const Tensor& in, std::span<const int64_t> rows, const Tensor& out) override;
  void all_gather_columns(const Tensor& in, std::span<const int64_t> columns, const Tensor& out) override;
  void reduce_scatter(const Tensor& in, std::span<const int64_t> rows, const Tensor& out) override;
  void all_to_all_rows(const RowExchange& exchange) override;
  void broadcast(const Tensor& tensor, int root) override;
  void send(std::span<const Tensor> tensors, int peer) override;
  void receive(std::span<const Tensor> tensors, int peer) override;
  void barrier() override;
  std::vector<std::vector<int64_t>> all_gather_counts(std::span<const int64_t> counts) override;

 private:
  // This rank's post for its next operation, with `tensors` as they lie in the caller's memory.
  Post& new_post(Operation operation, std::span<const Tensor> tensors, std::span<const int64_t> counts);
  const Post& post_of(int rank) const;
  // Copies what the post's views show to the group's memory, or makes the post direct where that is too small.
  void stage(Post& post, std::span<const int32_t> indices = {});
  // The whole operation; `transfer(waiter)` reads what the others have posted.
  template <typename Transfer>
  void exchange(Post& post, Transfer&& transfer);
  template <typename Transfer>
  void exchange_direct(const Post& post, Waiter& waiter, Transfer&& transfer);
  // The group's ranks, starting behind this one, so that not all read the same memory at the same time.
  int source_at(int i) const { return (rank_ + 1 + i) % size(); }
  void check_matching(const Waiter& waiter) const;
  // Waits until no other rank touches this rank's memory any more, after a failure.
  void withdraw();
  int world_rank(int rank) const { return group_.ranks()[static_cast<size_t>(rank)]; }
  Waiter message_waiter(Operation operation, int peer, uint64_t sequence);

  std::shared_ptr<WorldState> world_;
  GroupState& group_;
  const int rank_;
  Member& me_;
  std::vector<Channel*> outgoing_;  // by target, null until used
  std::vector<Channel*> incoming_;  // by source, null until used
  std::vector<View> terms_;         // of a reduction, by rank; kept to save allocations
};

}  // namespace shoal
