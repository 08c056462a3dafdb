// SPDX-License-Identifier: Apache-2.0
// Comm: one group of ranks as seen by one of them. Every rank of the group calls the same operations in the same order.
// Reductions are in float32 in a fixed binary tree over ranks, whatever the message's size: n ranks split into the first
// bit_ceil(n)/2 and the rest, so (r0+r1)+(r2+r3) for four and (r0+r1)+r2 for three.
// Every wait has a time-out; a CommError names this rank, the group, the operation and who was late. After an error the world is dead.
// Not here: how a model uses the groups (comm/group.h gives them types), MoE dispatch (comm/moe_exchange.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace shoal {

// Most tensors that may travel together in one message.
inline constexpr size_t kMaxTensorsPerMessage = 4;

// One all-to-all of rows; several tensors whose rows belong together travel in one message.
struct RowExchange {
  std::span<const Tensor> in;          // each [rows, ...], any row stride
  std::span<const int32_t> indices;    // the row of `in` that travels k-th, rank 0's first; empty: 0, 1, 2, ...
  std::span<const int64_t> send_rows;  // [size] rows for each rank
  std::span<const Tensor>
      out;  // each [sum(receive_rows), ...] in source order, contiguous; types and row sizes of `in`
  std::span<const int64_t> receive_rows;  // [size] rows from each rank
};

class Comm {
 public:
  virtual ~Comm() = default;

  virtual const std::string& name() const = 0;  // such as "attn_tp[0,1]", for messages
  virtual int rank() const = 0;                 // this rank's index in the group
  virtual int size() const = 0;

  // Sums each f32 tensor by itself over the ranks, in place; all in one message, kMaxTensorsPerMessage at most. Any row stride.
  virtual void all_reduce(std::span<const Tensor> tensors) = 0;
  // out [sum(rows), ...]: rank i's `in` has rows[i] rows; in rank order. `in` may have any row stride; out is contiguous.
  virtual void all_gather(const Tensor& in, std::span<const int64_t> rows, const Tensor& out) = 0;
  // out [rows, sum(columns)]: rank i's `in` is [rows, columns[i]].
  virtual void all_gather_columns(const Tensor& in, std::span<const int64_t> columns, const Tensor& out) = 0;
  // in f32 [sum(rows), ...]; out [rows[rank], ...] = this rank's rows of the sum, in the tree order of all_reduce. `out` may be
  // those rows of `in`, and must not overlap it otherwise.
  virtual void reduce_scatter(const Tensor& in, std::span<const int64_t> rows, const Tensor& out) = 0;
  virtual void all_to_all_rows(const RowExchange& exchange) = 0;
  // Rows of `in` lie in target order, send_rows[i] of them for rank i; rows of `out` in source order, receive_rows[i] from rank i.
  void all_to_all(const Tensor& in, std::span<const int64_t> send_rows, const Tensor& out,
                  std::span<const int64_t> receive_rows) {
    all_to_all_rows(
        {.in = {&in, 1}, .indices = {}, .send_rows = send_rows, .out = {&out, 1}, .receive_rows = receive_rows});
  }
  virtual void broadcast(const Tensor& tensor, int root) = 0;
  // One message, kMaxTensorsPerMessage tensors at most. The sender must not write them afterwards, and holds them until it next sends to
  // the same peer. One message is under way at a time: the sender waits until the peer has received the one before.
  virtual void send(std::span<const Tensor> tensors, int peer) = 0;
  virtual void receive(std::span<const Tensor> tensors, int peer) = 0;
  void send(const Tensor& tensor, int peer) { send({&tensor, 1}, peer); }
  void receive(const Tensor& tensor, int peer) { receive({&tensor, 1}, peer); }
  virtual void barrier() = 0;
  // Host integers of every rank, the same number from each: result[i] are rank i's.
  virtual std::vector<std::vector<int64_t>> all_gather_counts(std::span<const int64_t> counts) = 0;
};

}  // namespace shoal
