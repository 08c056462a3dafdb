// SPDX-License-Identifier: Apache-2.0
// Token strings and their ids, both ways. Invariants: ids are below kMaxId; a string has one id and an id one string; ids may
// have gaps.
// Not here: added tokens (added_tokens.h), bytes behind the strings (decoder.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::text {

inline constexpr int32_t kNoToken = -1;
inline constexpr int64_t kMaxId = 1 << 22;  // far above any real vocabulary; bounds what a hostile file can allocate

uint64_t hash_bytes(std::string_view bytes);

class Vocab {
 public:
  void reserve(size_t tokens);
  // A string given twice keeps its last id, as a JSON object's last value wins.
  void add(std::string_view token, int64_t id);
  int32_t find(std::string_view token) const;  // kNoToken if absent
  bool has(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < by_id_.size() && by_id_[id].present; }
  std::string_view token(int32_t id) const;                                 // empty if absent
  int32_t id_count() const { return static_cast<int32_t>(by_id_.size()); }  // highest id + 1
  size_t size() const { return count_; }

 private:
  struct Slot {
    uint32_t hash = 0;
    int32_t id = kNoToken;
  };
  struct Entry {
    uint64_t offset = 0;
    uint32_t length = 0;
    bool present = false;
  };
  void grow();
  size_t slot_of(std::string_view token, uint64_t hash) const;

  std::string arena_;
  std::vector<Entry> by_id_;
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  size_t count_ = 0;
};

}  // namespace shoal::text
