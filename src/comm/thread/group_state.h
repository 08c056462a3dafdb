// SPDX-License-Identifier: Apache-2.0
// What the threads of one group share: what each of them posted, how far it is, and the mailboxes between them.
//
// Operation number s of a group (1, 2, ...; the same on every rank) uses post s % 2 of each member. That is safe because every
// collective waits for all posts: whoever posts s + 2 has seen everyone post s + 1, so everyone has finished s.
// Not here: waiting (waiter.h) and the operations (thread_comm.cc).
#pragma once

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "comm/comm.h"
#include "comm/thread/progress.h"
#include "comm/thread/views.h"

namespace shoal {

enum class Operation : uint8_t {
  kNone,
  kAllReduce,
  kAllGather,
  kAllGatherColumns,
  kReduceScatter,
  kAllToAll,
  kBroadcast,
  kBarrier,
  kAllGatherCounts,
  kSend,
  kReceive,
};
const char* operation_name(Operation operation);

// Contributions up to this size are copied to the group's memory, so that nobody has to wait until the others have read them.
inline constexpr int64_t kStagingBytes = 32 * 1024;

// What one rank says about one collective. Read by the others after it is posted.
struct Post {
  Operation operation = Operation::kNone;
  int root = 0;
  size_t tensor_count = 0;
  std::array<View, kMaxTensorsPerMessage> tensors;  // where the others may read, and for a direct all_reduce write
  std::vector<int64_t> counts;                      // rows by rank, or the host integers
  const int32_t* indices = nullptr;                 // all_to_all, direct only
  bool direct = false;                              // `tensors` are the caller's own memory, not the staging copy

  std::string description() const;  // such as "all_gather(float32 rows of 64 bytes; 3 1)"
  // The same operation on the same sizes, as far as every rank of the group must agree on them.
  bool matches(const Post& other) const;
};

struct alignas(64) Staging {
  std::array<std::byte, kStagingBytes> bytes;
};

struct Member {
  Progress posted;    // operations this rank has posted
  Progress finished;  // last direct operation in which this rank is through with the others' memory
  // Nonzero while this rank may touch other ranks' own memory; see ThreadComm::withdraw.
  alignas(64) std::atomic<uint32_t> busy{0};
  uint64_t sequence = 0;  // of this rank's last operation; its own thread only
  std::array<Post, 2> posts;
  std::array<std::unique_ptr<Staging>, 2> staging;
};

// Messages from one rank to another, one at a time. The sender holds it until it sends again or ends, so memory is released by the
// thread that allocated it.
struct Channel {
  Progress sent;
  Progress received;
  std::vector<Tensor> message;  // changed by the sender only, when the one before is received
};

class GroupState {
 public:
  GroupState(std::string name, std::vector<int> ranks, int index);

  const std::string& name() const { return name_; }
  const std::vector<int>& ranks() const { return ranks_; }
  int size() const { return static_cast<int>(ranks_.size()); }
  int index() const { return index_; }  // in the world's list
  Member& member(int rank) { return *members_[static_cast<size_t>(rank)]; }
  Channel& channel(int source, int target);
  // Wakes everyone who is parked here, because the world has failed or a rank has ended.
  void wake_all();

 private:
  const std::string name_;
  const std::vector<int> ranks_;
  const int index_;
  std::vector<std::unique_ptr<Member>> members_;
  std::mutex mutex_;                                // of channels_
  std::vector<std::unique_ptr<Channel>> channels_;  // [source][target], made when first used
};

// "1 2 3"; fmt's own join makes g++ 12 warn at -O3.
template <typename Values>
std::string joined(const Values& values, const char* separator) {
  std::string text;
  for (const auto& value : values) text += fmt::format("{}{}", text.empty() ? "" : separator, value);
  return text;
}

// "tp" and {0, 1} -> "tp[0,1]"; long lists are shortened.
std::string group_label(const std::string& name, const std::vector<int>& ranks);

}  // namespace shoal
