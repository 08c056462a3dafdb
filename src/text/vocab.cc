// SPDX-License-Identifier: Apache-2.0
#include "text/vocab.h"

#include <bit>
#include <cstring>

#include "base/error.h"

namespace shoal::text {

// Eight bytes at a time through a 64x64 -> 128 bit multiply.
uint64_t hash_bytes(std::string_view bytes) {
  constexpr uint64_t kFactor = 0x9E3779B97F4A7C15ull;
  uint64_t state = bytes.size() * kFactor;
  const char* data = bytes.data();
  size_t left = bytes.size();
  while (left > 0) {
    uint64_t word = 0;
    const size_t take = left < 8 ? left : 8;
    std::memcpy(&word, data, take);
    __extension__ const unsigned __int128 product = static_cast<unsigned __int128>(state ^ word) * kFactor;
    state = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
    data += take;
    left -= take;
  }
  return state;
}

void Vocab::reserve(size_t tokens) {
  by_id_.reserve(tokens);
  arena_.reserve(tokens * 8);
  const size_t wanted = std::bit_ceil(tokens * 2 + 16);
  while (slots_.size() < wanted) grow();
}

void Vocab::add(std::string_view token, int64_t id) {
  if (id < 0 || id >= kMaxId)
    throw Error(ErrorKind::kInvalid, "vocabulary: id " + std::to_string(id) + " of token '" +
                                         std::string(token.substr(0, 80)) + "' must be in 0 .. " +
                                         std::to_string(kMaxId - 1));
  if (has(static_cast<int32_t>(id)) && this->token(static_cast<int32_t>(id)) != token)
    throw Error(ErrorKind::kInvalid, "vocabulary: id " + std::to_string(id) + " belongs to two tokens, '" +
                                         std::string(this->token(static_cast<int32_t>(id)).substr(0, 80)) + "' and '" +
                                         std::string(token.substr(0, 80)) + "'; ids must be unique");
  if ((count_ + 1) * 2 > slots_.size()) grow();
  const uint64_t hash = hash_bytes(token);
  Slot& slot = slots_[slot_of(token, hash)];
  if (slot.id == kNoToken) ++count_;
  slot = {static_cast<uint32_t>(hash), static_cast<int32_t>(id)};
  if (by_id_.size() <= static_cast<size_t>(id)) by_id_.resize(static_cast<size_t>(id) + 1);
  by_id_[id] = {arena_.size(), static_cast<uint32_t>(token.size()), true};
  arena_ += token;
}

int32_t Vocab::find(std::string_view token) const {
  if (slots_.empty()) return kNoToken;
  return slots_[slot_of(token, hash_bytes(token))].id;
}

std::string_view Vocab::token(int32_t id) const {
  if (!has(id)) return {};
  return std::string_view(arena_).substr(by_id_[id].offset, by_id_[id].length);
}

size_t Vocab::slot_of(std::string_view token, uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t at = (hash >> 32) & mask;
  while (slots_[at].id != kNoToken) {
    if (slots_[at].hash == static_cast<uint32_t>(hash) && this->token(slots_[at].id) == token) break;
    at = (at + 1) & mask;
  }
  return at;
}

void Vocab::grow() {
  std::vector<Slot> old(slots_.empty() ? 32 : slots_.size() * 2);
  old.swap(slots_);
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.id == kNoToken) continue;
    size_t at = (hash_bytes(token(slot.id)) >> 32) & mask;
    while (slots_[at].id != kNoToken) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

}  // namespace shoal::text
