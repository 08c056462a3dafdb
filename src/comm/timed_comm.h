// SPDX-License-Identifier: Apache-2.0
// TimedComm: any Comm, with the time that this rank spends in its operations added up: moving data and waiting for others.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <utility>

#include "comm/comm.h"

namespace shoal {

class TimedComm final : public Comm {
 public:
  // `nanoseconds` must live as long as this; only this rank's thread writes it.
  TimedComm(std::unique_ptr<Comm> inner, std::atomic<int64_t>& nanoseconds)
      : inner_(std::move(inner)), nanoseconds_(nanoseconds) {}

  const std::string& name() const override { return inner_->name(); }
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  void all_reduce(std::span<const Tensor> tensors) override {
    const Scope scope(nanoseconds_);
    inner_->all_reduce(tensors);
  }
  void all_gather(const Tensor& in, std::span<const int64_t> rows, const Tensor& out) override {
    const Scope scope(nanoseconds_);
    inner_->all_gather(in, rows, out);
  }
  void all_gather_columns(const Tensor& in, std::span<const int64_t> columns, const Tensor& out) override {
    const Scope scope(nanoseconds_);
    inner_->all_gather_columns(in, columns, out);
  }
  void reduce_scatter(const Tensor& in, std::span<const int64_t> rows, const Tensor& out) override {
    const Scope scope(nanoseconds_);
    inner_->reduce_scatter(in, rows, out);
  }
  void all_to_all_rows(const RowExchange& exchange) override {
    const Scope scope(nanoseconds_);
    inner_->all_to_all_rows(exchange);
  }
  void broadcast(const Tensor& tensor, int root) override {
    const Scope scope(nanoseconds_);
    inner_->broadcast(tensor, root);
  }
  void send(const Tensor& tensor, int peer) override {
    const Scope scope(nanoseconds_);
    inner_->send(tensor, peer);
  }
  void receive(const Tensor& tensor, int peer) override {
    const Scope scope(nanoseconds_);
    inner_->receive(tensor, peer);
  }
  void barrier() override {
    const Scope scope(nanoseconds_);
    inner_->barrier();
  }
  std::vector<std::vector<int64_t>> all_gather_counts(std::span<const int64_t> counts) override {
    const Scope scope(nanoseconds_);
    return inner_->all_gather_counts(counts);
  }

 private:
  using Clock = std::chrono::steady_clock;

  class Scope {
   public:
    explicit Scope(std::atomic<int64_t>& sum) : sum_(sum), begin_(Clock::now()) {}
    ~Scope() { sum_ += std::chrono::nanoseconds(Clock::now() - begin_).count(); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    std::atomic<int64_t>& sum_;
    const Clock::time_point begin_;
  };

  std::unique_ptr<Comm> inner_;
  std::atomic<int64_t>& nanoseconds_;
};

}  // namespace shoal
