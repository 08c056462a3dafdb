// SPDX-License-Identifier: Apache-2.0
// DryComm: a group of any size of which the other ranks are taken to do just what this one does, and nothing is moved: for finding out how
// much memory a step takes (model/step_memory.h). Counts are those that this rank would get if every other one sent what it does.
#pragma once

#include <string>
#include <vector>

#include "comm/comm.h"

namespace shoal {

class DryComm final : public Comm {
 public:
  DryComm(std::string name, int rank, int size) : name_(std::move(name)), rank_(rank), size_(size) {}

  const std::string& name() const override { return name_; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_reduce(std::span<const Tensor>) override {}
  void all_gather(const Tensor&, std::span<const int64_t>, const Tensor&) override {}
  void all_gather_columns(const Tensor&, std::span<const int64_t>, const Tensor&) override {}
  void reduce_scatter(const Tensor&, std::span<const int64_t>, const Tensor&) override {}
  void all_to_all_rows(const RowExchange&) override {}
  void broadcast(const Tensor&, int) override {}
  // Held until the next one, as transports do.
  void send(std::span<const Tensor> tensors, int) override { sent_.assign(tensors.begin(), tensors.end()); }
  void receive(std::span<const Tensor>, int) override {}
  void barrier() override {}
  std::vector<std::vector<int64_t>> all_gather_counts(std::span<const int64_t> counts) override {
    return std::vector<std::vector<int64_t>>(size_, {counts.begin(), counts.end()});
  }

 private:
  const std::string name_;
  const int rank_, size_;
  std::vector<Tensor> sent_;
};

}  // namespace shoal
