// SPDX-License-Identifier: Apache-2.0
// TimedComm: any Comm, with the time that this rank spends in its operations (moving data and waiting for others) and the bytes that it
// sends added up. Bytes are what each rank needs of this one's data, whatever the transport does: an all-reduce of n ranks is a
// reduce-scatter and a gather, of which each peer gets 2/n.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "comm/comm.h"

namespace shoal {

// Written by one rank's thread, read by any.
struct CommMeter {
  std::atomic<int64_t> nanoseconds{0};
  std::atomic<bool> inside{false};  // an operation
};

// From one rank to each rank of the world. Written by the rank's thread, read by any.
class SentBytes {
 public:
  explicit SentBytes(int world_size) : bytes_(world_size) {}
  void add(int rank, int64_t bytes) {
    std::atomic<int64_t>& sum = bytes_[rank];
    sum.store(sum.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
  }
  std::vector<int64_t> read() const { return {bytes_.begin(), bytes_.end()}; }

 private:
  std::vector<std::atomic<int64_t>> bytes_;
};

class TimedComm final : public Comm {
 public:
  // `meter` and `sent` must live as long as this; `ranks`: the group's, of the world.
  TimedComm(std::unique_ptr<Comm> inner, CommMeter& meter, SentBytes& sent, std::vector<int> ranks)
      : inner_(std::move(inner)), meter_(meter), sent_(sent), ranks_(std::move(ranks)) {}

  const std::string& name() const override { return inner_->name(); }
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  void all_reduce(std::span<const Tensor> tensors) override {
    const Scope scope(meter_);
    inner_->all_reduce(tensors);
    int64_t bytes = 0;
    for (const Tensor& tensor : tensors) bytes += tensor.bytes();
    send_each(2 * bytes / size());
  }
  void all_gather(const Tensor& in, std::span<const int64_t> rows, const Tensor& out) override {
    const Scope scope(meter_);
    inner_->all_gather(in, rows, out);
    send_each(in.bytes());
  }
  void all_gather_columns(const Tensor& in, std::span<const int64_t> columns, const Tensor& out) override {
    const Scope scope(meter_);
    inner_->all_gather_columns(in, columns, out);
    send_each(in.bytes());
  }
  void reduce_scatter(const Tensor& in, std::span<const int64_t> rows, const Tensor& out) override {
    const Scope scope(meter_);
    inner_->reduce_scatter(in, rows, out);
    send_rows(row_bytes(in), rows);
  }
  void all_to_all_rows(const RowExchange& exchange) override {
    const Scope scope(meter_);
    inner_->all_to_all_rows(exchange);
    int64_t bytes = 0;
    for (const Tensor& tensor : exchange.in) bytes += row_bytes(tensor);
    send_rows(bytes, exchange.send_rows);
  }
  void broadcast(const Tensor& tensor, int root) override {
    const Scope scope(meter_);
    inner_->broadcast(tensor, root);
    if (root == rank()) send_each(tensor.bytes());
  }
  using Comm::receive;
  using Comm::send;
  void send(std::span<const Tensor> tensors, int peer) override {
    const Scope scope(meter_);
    inner_->send(tensors, peer);
    for (const Tensor& tensor : tensors) sent_.add(ranks_[peer], tensor.bytes());
  }
  void receive(std::span<const Tensor> tensors, int peer) override {
    const Scope scope(meter_);
    inner_->receive(tensors, peer);
  }
  void barrier() override {
    const Scope scope(meter_);
    inner_->barrier();
  }
  std::vector<std::vector<int64_t>> all_gather_counts(std::span<const int64_t> counts) override {
    const Scope scope(meter_);
    send_each(std::ssize(counts) * static_cast<int64_t>(sizeof(int64_t)));
    return inner_->all_gather_counts(counts);
  }

 private:
  using Clock = std::chrono::steady_clock;

  class Scope {
   public:
    explicit Scope(CommMeter& meter) : meter_(meter), begin_(Clock::now()) {
      meter_.inside.store(true, std::memory_order_relaxed);
    }
    ~Scope() {
      meter_.nanoseconds += std::chrono::nanoseconds(Clock::now() - begin_).count();
      meter_.inside.store(false, std::memory_order_relaxed);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    CommMeter& meter_;
    const Clock::time_point begin_;
  };

  static int64_t row_bytes(const Tensor& tensor) {
    return tensor.row_elements() * static_cast<int64_t>(dtype_bytes(tensor.dtype()));
  }
  void send_each(int64_t bytes) {
    for (int peer = 0; peer < size(); ++peer)
      if (peer != rank()) sent_.add(ranks_[peer], bytes);
  }
  void send_rows(int64_t row_bytes, std::span<const int64_t> rows) {
    for (int peer = 0; peer < size(); ++peer)
      if (peer != rank()) sent_.add(ranks_[peer], row_bytes * rows[peer]);
  }

  std::unique_ptr<Comm> inner_;
  CommMeter& meter_;
  SentBytes& sent_;
  std::vector<int> ranks_;
};

}  // namespace shoal
