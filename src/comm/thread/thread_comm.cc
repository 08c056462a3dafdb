// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/thread_comm.h"

#include <fmt/format.h>
#include <sched.h>

#include "base/whole.h"

namespace shoal {
namespace {

// All-reduces up to this size times ranks are summed whole by every rank: one wait instead of two. The order of the sum is the same.
constexpr int64_t kOneShotBytes = 32 * 1024;
// Parts of a large all-reduce begin at multiples of a cache line.
constexpr int64_t kPartUnit = 16;

int64_t part_begin(int64_t elements, int64_t index, int64_t parts) {
  return index == parts ? elements : elements * index / parts / kPartUnit * kPartUnit;
}

// Marks this rank as one that may touch the others' memory.
class BusyScope {
 public:
  explicit BusyScope(Member& member) : member_(member) { member_.busy.store(1); }
  ~BusyScope() { member_.busy.store(0); }
  BusyScope(const BusyScope&) = delete;
  BusyScope& operator=(const BusyScope&) = delete;

 private:
  Member& member_;
};

void check_message(const Waiter& waiter, const View& sent, const View& wanted) {
  if (sent.dtype == wanted.dtype && sent.rows == wanted.rows && sent.row_bytes == wanted.row_bytes) return;
  waiter.fail(fmt::format("expects {} x {} bytes of {}, the peer sent {} x {} bytes of {}", wanted.rows,
                          wanted.row_bytes, dtype_name(wanted.dtype), sent.rows, sent.row_bytes,
                          dtype_name(sent.dtype)));
}

}  // namespace

ThreadComm::ThreadComm(std::shared_ptr<WorldState> world, GroupState& group, int rank)
    : world_(std::move(world)),
      group_(group),
      rank_(rank),
      me_(group.member(rank)),
      outgoing_(static_cast<size_t>(group.size())),
      incoming_(static_cast<size_t>(group.size())),
      terms_(static_cast<size_t>(group.size())) {}

ThreadComm::~ThreadComm() {
  for (Channel* channel : outgoing_) {
    if (channel && channel->received.value() == channel->sent.value()) channel->message.clear();
  }
}

Post& ThreadComm::new_post(Operation operation, std::span<const Tensor> tensors, std::span<const int64_t> counts) {
  CHECK_LE(tensors.size(), kMaxTensorsPerMessage);
  // In a failed world others may still be reading what this rank last posted.
  if (world_->failed()) message_waiter(operation, Activity::kAllPosts, me_.sequence + 1).throw_if_failed();
  Post& post = me_.posts[(me_.sequence + 1) % 2];
  post.operation = operation;
  post.root = 0;
  post.tensor_count = tensors.size();
  for (size_t i = 0; i < tensors.size(); ++i) post.tensors[i] = View::of(tensors[i]);
  post.counts.assign(counts.begin(), counts.end());
  post.indices = nullptr;
  post.direct = false;
  return post;
}

const Post& ThreadComm::post_of(int rank) const { return group_.member(rank).posts[me_.sequence % 2]; }

void ThreadComm::stage(Post& post, std::span<const int32_t> indices) {
  if (size() > 1) {
    int64_t bytes = 0;
    for (size_t i = 0; i < post.tensor_count; ++i) {
      const View& view = post.tensors[i];
      bytes += indices.empty() ? view.bytes() : view.row_bytes * static_cast<int64_t>(indices.size());
    }
    post.direct = bytes > kStagingBytes;
  }
  if (post.direct || size() == 1) {
    post.indices = indices.empty() ? nullptr : indices.data();
    return;
  }
  std::byte* target = me_.staging[(me_.sequence + 1) % 2]->bytes.data();
  for (size_t i = 0; i < post.tensor_count; ++i) {
    View staged = post.tensors[i];
    staged.data = target;
    staged.stride = staged.row_bytes;
    if (!indices.empty()) staged.rows = static_cast<int64_t>(indices.size());
    indices.empty() ? copy_rows(post.tensors[i], staged) : gather_rows(post.tensors[i], indices, staged);
    post.tensors[i] = staged;
    target += staged.bytes();
  }
}

template <typename Transfer>
void ThreadComm::exchange(Post& post, Transfer&& transfer) {
  const uint64_t sequence = ++me_.sequence;
  Waiter waiter(*world_, group_, world_rank(rank_), {.operation = post.operation, .sequence = sequence});
  if (size() == 1) return transfer(waiter);
  try {
    me_.posted.advance(sequence);
    bool direct = false;
    for (int i = 0; i < size(); ++i) {
      waiter.wait(group_.member(i).posted, sequence, world_rank(i));
      direct = direct || post_of(i).direct;
    }
    check_matching(waiter);
    if (direct) {
      exchange_direct(post, waiter, transfer);
    } else {
      transfer(waiter);
    }
  } catch (...) {
    if (post.direct) withdraw();
    throw;
  }
}

template <typename Transfer>
void ThreadComm::exchange_direct(const Post& post, Waiter& waiter, Transfer&& transfer) {
  {
    const BusyScope busy(me_);
    waiter.throw_if_failed();  // after `busy`: a rank that fails either sees it, or is seen here
    transfer(waiter);
  }
  me_.finished.advance(me_.sequence);
  if (!post.direct) return;
  waiter.now_awaits_readers();
  for (int i = 0; i < size(); ++i) waiter.wait(group_.member(i).finished, me_.sequence, world_rank(i));
}

void ThreadComm::check_matching(const Waiter& waiter) const {
  const Post& first = post_of(0);
  for (int i = 1; i < size(); ++i) {
    const Post& post = post_of(i);
    if (post.matches(first)) continue;
    waiter.fail(fmt::format("rank {} called {} while rank {} called {}", world_rank(i), post.description(),
                            world_rank(0), first.description()));
  }
}

// The world has failed, so nobody starts to touch memory of others any more, and a copy under way waits for nothing.
void ThreadComm::withdraw() {
  for (int i = 0; i < size(); ++i) {
    while (i != rank_ && group_.member(i).busy.load() != 0) sched_yield();
  }
}

void ThreadComm::all_reduce(std::span<const Tensor> tensors) {
  int64_t bytes = 0;
  for (const Tensor& tensor : tensors) {
    CHECK(tensor.dtype() == DType::kF32);
    bytes += tensor.bytes();
  }
  if (size() == 1) return;
  Post& post = new_post(Operation::kAllReduce, tensors, {});
  post.direct = bytes > kStagingBytes || bytes * size() > kOneShotBytes;
  if (!post.direct) stage(post);
  exchange(post, [&](const Waiter&) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      const View mine = View::of(tensors[i]);
      for (int r = 0; r < size(); ++r) terms_[static_cast<size_t>(r)] = post_of(r).tensors[i];
      if (post.direct) {
        sum_views(terms_, terms_, part_begin(mine.floats(), rank_, size()),
                  part_begin(mine.floats(), rank_ + 1, size()));
      } else {
        sum_views(terms_, {&mine, 1}, 0, mine.floats());
      }
    }
  });
}

void ThreadComm::all_gather(const Tensor& in, std::span<const int64_t> rows, const Tensor& out) {
  CHECK_EQ(rows.size(), static_cast<size_t>(size()));
  CHECK_EQ(in.rows(), rows[static_cast<size_t>(rank_)]);
  CHECK_EQ(out.rows(), sum(rows));
  CHECK(out.contiguous() && in.dtype() == out.dtype());
  CHECK_EQ(in.row_elements(), out.row_elements());
  Post& post = new_post(Operation::kAllGather, {&in, 1}, rows);
  stage(post);
  exchange(post, [&](const Waiter&) {
    const View target = View::of(out);
    for (int i = 0; i < size(); ++i) {
      const auto source = static_cast<size_t>(source_at(i));
      copy_rows(post_of(source_at(i)).tensors[0], target.slice(sum(rows.first(source)), rows[source]));
    }
  });
}

void ThreadComm::all_gather_columns(const Tensor& in, std::span<const int64_t> columns, const Tensor& out) {
  CHECK_EQ(columns.size(), static_cast<size_t>(size()));
  CHECK_EQ(in.row_elements(), columns[static_cast<size_t>(rank_)]);
  CHECK_EQ(out.row_elements(), sum(columns));
  CHECK_EQ(out.rows(), in.rows());
  CHECK(out.contiguous() && in.dtype() == out.dtype());
  Post& post = new_post(Operation::kAllGatherColumns, {&in, 1}, columns);
  stage(post);
  exchange(post, [&](const Waiter&) {
    const auto width = static_cast<int64_t>(dtype_bytes(out.dtype()));
    for (int i = 0; i < size(); ++i) {
      const auto source = static_cast<size_t>(source_at(i));
      View target = View::of(out);
      if (target.rows > 0) target.data += sum(columns.first(source)) * width;
      target.row_bytes = columns[source] * width;
      copy_rows(post_of(source_at(i)).tensors[0], target);
    }
  });
}

void ThreadComm::reduce_scatter(const Tensor& in, std::span<const int64_t> rows, const Tensor& out) {
  CHECK_EQ(rows.size(), static_cast<size_t>(size()));
  CHECK_EQ(in.rows(), sum(rows));
  CHECK_EQ(out.rows(), rows[static_cast<size_t>(rank_)]);
  CHECK_EQ(in.row_elements(), out.row_elements());
  CHECK(in.dtype() == DType::kF32 && out.dtype() == DType::kF32);
  Post& post = new_post(Operation::kReduceScatter, {&in, 1}, rows);
  stage(post);
  exchange(post, [&](const Waiter&) {
    const int64_t first = sum(rows.first(static_cast<size_t>(rank_)));
    for (int r = 0; r < size(); ++r) terms_[static_cast<size_t>(r)] = post_of(r).tensors[0].slice(first, out.rows());
    const View target = View::of(out);
    sum_views(terms_, {&target, 1}, 0, target.floats());
  });
}

void ThreadComm::all_to_all_rows(const RowExchange& exchange_of) {
  const auto& [in, indices, send_rows, out, receive_rows] = exchange_of;
  CHECK_EQ(send_rows.size(), static_cast<size_t>(size()));
  CHECK_EQ(receive_rows.size(), static_cast<size_t>(size()));
  CHECK_EQ(in.size(), out.size());
  if (!indices.empty()) CHECK_EQ(static_cast<int64_t>(indices.size()), sum(send_rows));
  for (size_t i = 0; i < in.size(); ++i) {
    if (indices.empty()) CHECK_EQ(in[i].rows(), sum(send_rows));
    CHECK_EQ(out[i].rows(), sum(receive_rows));
    CHECK_EQ(in[i].row_elements(), out[i].row_elements());
    CHECK(out[i].contiguous() && in[i].dtype() == out[i].dtype());
  }
  Post& post = new_post(Operation::kAllToAll, in, send_rows);
  stage(post, indices);
  exchange(post, [&, out = out, receive_rows = receive_rows](const Waiter& waiter) {
    for (int i = 0; i < size(); ++i) {
      const int source = source_at(i);
      const Post& theirs = post_of(source);
      const std::span<const int64_t> sent = theirs.counts;
      const int64_t count = receive_rows[static_cast<size_t>(source)];
      if (sent[static_cast<size_t>(rank_)] != count) {
        waiter.fail(fmt::format("expects {} rows from rank {}, which called {}", count, world_rank(source),
                                theirs.description()));
      }
      const int64_t from = sum(sent.first(static_cast<size_t>(rank_)));
      const int64_t to = sum(receive_rows.first(static_cast<size_t>(source)));
      for (size_t t = 0; t < out.size(); ++t) {
        const View target = View::of(out[t]).slice(to, count);
        if (theirs.indices) {
          gather_rows(theirs.tensors[t], {theirs.indices + from, static_cast<size_t>(count)}, target);
        } else {
          copy_rows(theirs.tensors[t].slice(from, count), target);
        }
      }
    }
  });
}

void ThreadComm::broadcast(const Tensor& tensor, int root) {
  CHECK(0 <= root && root < size());
  Post& post = new_post(Operation::kBroadcast, {&tensor, 1}, {});
  post.root = root;
  if (rank_ == root) stage(post);
  exchange(post, [&](const Waiter&) {
    if (rank_ != root) copy_rows(post_of(root).tensors[0], View::of(tensor));
  });
}

void ThreadComm::barrier() {
  exchange(new_post(Operation::kBarrier, {}, {}), [](const Waiter&) {});
}

std::vector<std::vector<int64_t>> ThreadComm::all_gather_counts(std::span<const int64_t> counts) {
  std::vector<std::vector<int64_t>> result(static_cast<size_t>(size()));
  exchange(new_post(Operation::kAllGatherCounts, {}, counts), [&](const Waiter&) {
    for (int i = 0; i < size(); ++i) result[static_cast<size_t>(i)] = post_of(i).counts;
  });
  return result;
}

Waiter ThreadComm::message_waiter(Operation operation, int peer, uint64_t sequence) {
  return {*world_, group_, world_rank(rank_), {.operation = operation, .peer = peer, .sequence = sequence}};
}

void ThreadComm::send(std::span<const Tensor> tensors, int peer) {
  CHECK(0 <= peer && peer < size());
  CHECK_LE(tensors.size(), kMaxTensorsPerMessage);
  Channel*& channel = outgoing_[static_cast<size_t>(peer)];
  if (!channel) channel = &group_.channel(rank_, peer);
  const uint64_t sequence = channel->sent.value() + 1;
  Waiter waiter = message_waiter(Operation::kSend, peer, sequence);
  waiter.wait(channel->received, sequence - 1, world_rank(peer));
  channel->message.assign(tensors.begin(), tensors.end());
  channel->sent.advance(sequence);
}

void ThreadComm::receive(std::span<const Tensor> tensors, int peer) {
  CHECK(0 <= peer && peer < size());
  Channel*& channel = incoming_[static_cast<size_t>(peer)];
  if (!channel) channel = &group_.channel(peer, rank_);
  const uint64_t sequence = channel->received.value() + 1;
  Waiter waiter = message_waiter(Operation::kReceive, peer, sequence);
  waiter.wait(channel->sent, sequence, world_rank(peer));
  if (channel->message.size() != tensors.size())
    waiter.fail(fmt::format("expects {} tensors, the peer sent {}", tensors.size(), channel->message.size()));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const View sent = View::of(channel->message[i]), wanted = View::of(tensors[i]);
    check_message(waiter, sent, wanted);
    copy_rows(sent, wanted);
  }
  channel->received.advance(sequence);
}

}  // namespace shoal
