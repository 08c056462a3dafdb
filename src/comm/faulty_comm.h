// SPDX-License-Identifier: Apache-2.0
// FaultyComm: any Comm, with one fault at its n-th operation; for tests of what the other ranks then see.
#pragma once

#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>

#include "comm/comm.h"

namespace shoal {

// Thrown by Fault::kDie: the rank's thread must end without telling anybody.
struct RankDied {};

struct Fault {
  enum class Kind { kThrow, kStall, kDie };
  Kind kind = Kind::kThrow;
  int at = 1;                          // before the n-th operation, from 1
  std::chrono::milliseconds stall{0};  // kStall: then goes on
};

class FaultyComm final : public Comm {
 public:
  FaultyComm(std::unique_ptr<Comm> inner, const Fault& fault) : inner_(std::move(inner)), fault_(fault) {}

  const std::string& name() const override { return inner_->name(); }
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  void all_reduce(std::span<const Tensor> tensors) override { next().all_reduce(tensors); }
  void all_gather(const Tensor& in, std::span<const int64_t> rows, const Tensor& out) override {
    next().all_gather(in, rows, out);
  }
  void all_gather_columns(const Tensor& in, std::span<const int64_t> columns, const Tensor& out) override {
    next().all_gather_columns(in, columns, out);
  }
  void reduce_scatter(const Tensor& in, std::span<const int64_t> rows, const Tensor& out) override {
    next().reduce_scatter(in, rows, out);
  }
  void all_to_all_rows(const RowExchange& exchange) override { next().all_to_all_rows(exchange); }
  void broadcast(const Tensor& tensor, int root) override { next().broadcast(tensor, root); }
  void send(std::span<const Tensor> tensors, int peer) override { next().send(tensors, peer); }
  void receive(std::span<const Tensor> tensors, int peer) override { next().receive(tensors, peer); }
  void barrier() override { next().barrier(); }
  std::vector<std::vector<int64_t>> all_gather_counts(std::span<const int64_t> counts) override {
    return next().all_gather_counts(counts);
  }

 private:
  Comm& next() {
    if (++count_ == fault_.at) {
      if (fault_.kind == Fault::Kind::kThrow) throw std::runtime_error("injected fault");
      if (fault_.kind == Fault::Kind::kDie) throw RankDied{};
      std::this_thread::sleep_for(fault_.stall);
    }
    return *inner_;
  }

  std::unique_ptr<Comm> inner_;
  const Fault fault_;
  int count_ = 0;
};

}  // namespace shoal
