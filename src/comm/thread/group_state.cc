// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/group_state.h"

#include <algorithm>

namespace shoal {

const char* operation_name(Operation operation) {
  switch (operation) {
    case Operation::kNone:
      return "nothing";
    case Operation::kAllReduce:
      return "all_reduce";
    case Operation::kAllGather:
      return "all_gather";
    case Operation::kAllGatherColumns:
      return "all_gather_columns";
    case Operation::kReduceScatter:
      return "reduce_scatter";
    case Operation::kAllToAll:
      return "all_to_all";
    case Operation::kBroadcast:
      return "broadcast";
    case Operation::kBarrier:
      return "barrier";
    case Operation::kAllGatherCounts:
      return "all_gather_counts";
    case Operation::kSend:
      return "send";
    case Operation::kReceive:
      return "receive";
  }
  return "?";
}

std::string Post::description() const {
  std::string text = operation_name(operation);
  if (operation == Operation::kBarrier) return text;
  if (operation == Operation::kAllGatherCounts) return text + fmt::format("({} integers)", counts.size());
  text += '(';
  for (size_t i = 0; i < tensor_count; ++i) {
    const View& view = tensors[i];
    text += fmt::format("{}{} {} x {} bytes", i ? ", " : "", dtype_name(view.dtype), view.rows, view.row_bytes);
  }
  if (operation == Operation::kBroadcast) text += fmt::format("; root {}", root);
  if (!counts.empty()) text += "; " + joined(counts, " ");
  return text + ')';
}

bool Post::matches(const Post& other) const {
  if (operation != other.operation || tensor_count != other.tensor_count || root != other.root) return false;
  if (operation == Operation::kAllGatherCounts) return counts.size() == other.counts.size();
  // In an all-to-all, each pair of ranks agrees on its own number of rows, checked where the rows are copied.
  if (operation != Operation::kAllToAll && counts != other.counts) return false;
  const auto same = [this](const View& a, const View& b) {
    if (a.dtype != b.dtype) return false;
    switch (operation) {
      case Operation::kAllReduce:
        return a.bytes() == b.bytes();
      case Operation::kAllGatherColumns:
        return a.rows == b.rows;
      case Operation::kBroadcast:
        return a.rows == b.rows && a.row_bytes == b.row_bytes;
      default:
        return a.row_bytes == b.row_bytes;
    }
  };
  return std::equal(tensors.begin(), tensors.begin() + static_cast<std::ptrdiff_t>(tensor_count), other.tensors.begin(),
                    same);
}

GroupState::GroupState(std::string name, std::vector<int> ranks, int index)
    : name_(std::move(name)), ranks_(std::move(ranks)), index_(index), channels_(ranks_.size() * ranks_.size()) {
  for (size_t i = 0; i < ranks_.size(); ++i) {
    members_.push_back(std::make_unique<Member>());
    // Not initialised, so that a page belongs to the thread that first writes it.
    for (auto& staging : members_.back()->staging) staging = std::make_unique_for_overwrite<Staging>();
  }
}

Channel& GroupState::channel(int source, int target) {
  const std::lock_guard lock(mutex_);
  auto& channel = channels_[static_cast<size_t>(source) * ranks_.size() + static_cast<size_t>(target)];
  if (!channel) channel = std::make_unique<Channel>();
  return *channel;
}

void GroupState::wake_all() {
  for (const auto& member : members_) {
    member->posted.wake();
    member->finished.wake();
  }
  const std::lock_guard lock(mutex_);
  for (const auto& channel : channels_) {
    if (!channel) continue;
    channel->sent.wake();
    channel->received.wake();
  }
}

std::string group_label(const std::string& name, const std::vector<int>& ranks) {
  constexpr size_t kWritten = 16;
  if (ranks.size() <= kWritten) return fmt::format("{}[{}]", name, joined(ranks, ","));
  return fmt::format("{}[{},{},..,{}; {} ranks]", name, ranks[0], ranks[1], ranks.back(), ranks.size());
}

}  // namespace shoal
