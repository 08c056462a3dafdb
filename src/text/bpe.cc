// SPDX-License-Identifier: Apache-2.0
#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <functional>
#include <queue>

#include "text/utf8.h"

namespace shoal::text {
namespace {

constexpr char32_t kSmallCharacters = 0x800;

std::string byte_token(int byte) {
  char text[8];
  std::snprintf(text, sizeof(text), "<0x%02X>", byte);
  return text;
}

}  // namespace

void MergeTable::reserve(size_t merges) { slots_.assign(std::bit_ceil(merges * 2 + 2), {}); }

size_t MergeTable::slot_of(uint64_t key) const {
  const size_t mask = slots_.size() - 1;
  const uint64_t mixed = key * 0x9E3779B97F4A7C15ull;
  size_t at = (mixed ^ (mixed >> 29)) >> 20 & mask;
  while (slots_[at].key != kEmpty && slots_[at].key != key) at = (at + 1) & mask;
  return at;
}

void MergeTable::put(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  slots_[slot_of(key)] = {key, merge};
}

const MergeTable::Merge* MergeTable::find(int32_t left, int32_t right) const {
  const Slot& slot = slots_[slot_of(static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right))];
  return slot.key == kEmpty ? nullptr : &slot.merge;
}

Bpe::Bpe(Json model) {
  prefix_ = get_string(model, "continuing_subword_prefix");
  suffix_ = get_string(model, "end_of_word_suffix");
  fuse_unknown_ = get_bool(model, "fuse_unk", false);
  byte_fallback_ = get_bool(model, "byte_fallback", false);
  ignore_merges_ = get_bool(model, "ignore_merges", false);
  read_vocab(model);
  read_merges(model);
  const std::string_view unknown = get_string(model, "unk_token");
  if (!unknown.empty()) {
    unknown_ = vocab_.find(unknown);
    if (unknown_ == kNoToken) wrong_json("model.unk_token", "'" + std::string(unknown) + "' must be in the vocabulary");
  }
  small_characters_.resize(kSmallCharacters, kNoToken);
  for (char32_t c = 0; c < kSmallCharacters; ++c) {
    std::string character;
    append_code_point(c, character);
    small_characters_[c] = vocab_.find(character);
  }
  for (int byte = 0; byte < 256; ++byte) byte_ids_.push_back(vocab_.find(byte_token(byte)));
}

void Bpe::read_vocab(Json model) {
  simdjson::dom::object tokens;
  if (model["vocab"].get(tokens) != simdjson::SUCCESS) wrong_json("model.vocab", "must be an object of token: id");
  vocab_.reserve(tokens.size());
  for (const auto& [token, value] : tokens) {
    int64_t id = 0;
    if (value.get(id) != simdjson::SUCCESS) wrong_json("model.vocab", "has a token whose id is not an integer");
    vocab_.add(token, id);
  }
}

void Bpe::read_merges(Json model) {
  const simdjson::dom::array list = get_array(model, "merges");
  // array::size() saturates at 2^24 - 1, hence the count by hand.
  merges_.reserve(static_cast<size_t>(std::distance(list.begin(), list.end())));
  int32_t rank = 0;
  for (const Json item : list) {
    simdjson::dom::array pair;
    if (item.get(pair) == simdjson::SUCCESS) {
      if (pair.size() != 2) wrong_json("model.merges", "has an entry that is not a pair");
      add_merge(string_of(pair.at(0), "model.merges"), string_of(pair.at(1), "model.merges"), rank++);
      continue;
    }
    const std::string_view text = string_of(item, "model.merges");
    if (text.starts_with("#version")) continue;
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos)
      wrong_json("model.merges",
                 "has '" + std::string(text.substr(0, 80)) + "', which is not two tokens and one space");
    add_merge(text.substr(0, space), text.substr(space + 1), rank++);
  }
}

void Bpe::add_merge(std::string_view left, std::string_view right, int32_t rank) {
  const auto id_of = [&](std::string_view token) {
    const int32_t id = vocab_.find(token);
    if (id == kNoToken)
      wrong_json("model.merges", "needs '" + std::string(token.substr(0, 80)) + "', which is not in the vocabulary");
    return id;
  };
  const std::string joined = std::string(left) + std::string(right.substr(std::min(prefix_.size(), right.size())));
  merges_.put(id_of(left), id_of(right), {rank, id_of(joined)});
}

int32_t Bpe::find_character(std::string_view word, size_t begin, size_t end) const {
  const std::string_view character = word.substr(begin, end - begin);
  const bool with_prefix = begin > 0 && !prefix_.empty();
  const bool with_suffix = end == word.size() && !suffix_.empty();
  if (with_prefix || with_suffix)
    return vocab_.find((with_prefix ? prefix_ : "") + std::string(character) + (with_suffix ? suffix_ : ""));
  size_t at = 0;
  const char32_t c = next_code_point(character, at);
  return c < kSmallCharacters ? small_characters_[c] : vocab_.find(character);
}

// False, and nothing appended, unless the vocabulary has every byte of the character.
bool Bpe::append_bytes(std::string_view character, std::vector<int32_t>& out) const {
  const auto id_of = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
  if (std::any_of(character.begin(), character.end(), [&](char byte) { return id_of(byte) == kNoToken; })) return false;
  for (const char byte : character) out.push_back(id_of(byte));
  return true;
}

// One id per character. A character without one becomes its bytes, or the unknown token, or nothing. A pending unknown is added
// when the next known character (not byte) comes: the order of the reference library.
void Bpe::initial_ids(std::string_view word, std::vector<int32_t>& out) const {
  bool unknown_pending = false;
  for (size_t begin = 0; begin < word.size();) {
    const size_t end = std::min(begin + utf8_length(static_cast<unsigned char>(word[begin])), word.size());
    const int32_t id = find_character(word, begin, end);
    if (id != kNoToken) {
      if (unknown_pending) out.push_back(unknown_);
      unknown_pending = false;
      out.push_back(id);
    } else if (!(byte_fallback_ && append_bytes(word.substr(begin, end - begin), out)) && unknown_ != kNoToken) {
      if (unknown_pending && !fuse_unknown_) out.push_back(unknown_);
      unknown_pending = true;
    }
    begin = end;
  }
  if (unknown_pending) out.push_back(unknown_);
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& out) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    const int32_t whole = vocab_.find(word);
    if (whole != kNoToken) return out.push_back(whole);
  }
  std::vector<int32_t> ids;
  initial_ids(word, ids);
  std::vector<Symbol> symbols(ids.size());
  const auto count = static_cast<int32_t>(ids.size());
  for (int32_t i = 0; i < count; ++i) symbols[i] = {ids[i], i - 1, i + 1 < count ? i + 1 : -1, true};
  merge_all(symbols);
  for (const Symbol& symbol : symbols)
    if (symbol.alive) out.push_back(symbol.id);
}

// A heap of candidate merges by (rank, position) over a linked list of symbols. A candidate is stale, and skipped, when the pair
// that now stands at its position would not give its token.
void Bpe::merge_all(std::vector<Symbol>& symbols) const {
  struct Candidate {
    uint64_t order;  // rank << 32 | position
    int32_t id;
    bool operator>(const Candidate& other) const { return order > other.order; }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](int32_t position) {
    if (position < 0 || symbols[position].next < 0) return;
    const MergeTable::Merge* merge = merges_.find(symbols[position].id, symbols[symbols[position].next].id);
    if (merge != nullptr)
      queue.push({static_cast<uint64_t>(merge->rank) << 32 | static_cast<uint32_t>(position), merge->id});
  };
  for (int32_t i = 0; i < static_cast<int32_t>(symbols.size()); ++i) offer(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    const auto position = static_cast<int32_t>(top.order & 0xFFFFFFFF);
    Symbol& left = symbols[position];
    if (!left.alive || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    const MergeTable::Merge* merge = merges_.find(left.id, right.id);
    if (merge == nullptr || merge->id != top.id) continue;
    left.id = top.id;
    right.alive = false;
    left.next = right.next;
    if (right.next >= 0) symbols[right.next].previous = position;
    offer(left.previous);
    offer(position);
  }
}

}  // namespace shoal::text
